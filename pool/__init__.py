"""The pool: everything that runs on the operator's side."""
