"""Writing data sets as TFDS directories (array_record), without TensorFlow."""
