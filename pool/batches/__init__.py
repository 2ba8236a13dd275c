"""A customer's batch from the uploaded file to the output file."""
