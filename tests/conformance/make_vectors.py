"""Write vectors/: what transformers gives for each tiny model of the zoo.

    .venv-conformance/bin/python tests/conformance/make_vectors.py   (after make conformance)

Weights and rows are made from seeds (``zoo.fill``, ``zoo.rows_of``), so a file holds the
configuration as transformers saves it, the names and shapes of the tensors, and the outputs
(float64 rounded to float32, little-endian, base64).
"""

from __future__ import annotations

import json
import tempfile
from base64 import b64encode
from pathlib import Path

import numpy as np
from reference import compute, save_model
from zoo import MODELS, VECTORS, longest_row, rows_of, settings_of, stored_variants


def main() -> None:
    for model in MODELS:
        with tempfile.TemporaryDirectory() as place:
            made = save_model(Path(place), model, 0)
            config = json.loads(Path(place, "config.json").read_text())
        rows = rows_of(0, settings_of(model, 0)["vocab_size"], longest_row(model, 0))
        shapes = {name: list(tensor.shape) for name, tensor in made.state_dict().items()}
        lines = [
            '{"config": ' + json.dumps(config, sort_keys=True) + ",",
            '"shapes": ' + json.dumps(shapes) + ",",
            '"outputs": {',
        ]
        outputs = []
        for pooling, normalise in stored_variants(model):
            values = compute(made, rows, pooling, normalise).astype("<f4")
            assert np.isfinite(values).all()
            name = f"{pooling} normalised" if normalise else pooling
            outputs.append(f'"{name}": "{b64encode(values.tobytes()).decode()}"')
        path = VECTORS / f"{model.name}.json"
        path.write_text("\n".join([*lines, ",\n".join(outputs), "}}"]) + "\n")
        print(f"{path.name}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
