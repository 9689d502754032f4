"""What is remembered outside TensorFlow: ids, counts, histories, what followed what."""
