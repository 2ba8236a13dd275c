// Reads a list of lists of [address, amount] and writes what @openzeppelin/merkle-tree makes of
// each: node peer.mjs < claims.json > trees.json
import { readFileSync } from "node:fs";
import { StandardMerkleTree } from "@openzeppelin/merkle-tree";

const trees = JSON.parse(readFileSync(0, "utf8")).map((values) => {
  const tree = StandardMerkleTree.of(values, ["address", "uint256"]);
  return {
    values,
    root: tree.root,
    proofs: values.map((_, index) => tree.getProof(index)),
    dump: tree.dump(),
  };
});
process.stdout.write(JSON.stringify(trees, null, 1) + "\n");
