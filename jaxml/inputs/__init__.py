"""Reading data: where sets are found, how their records are read, batched and resumed.

`source` finds and reads sets, `image` `text` `video` give arrays and documents, `tokenizer` turns
text into ids, `loader` makes batches whose position can be saved, `synthetic` draws data from a
key. Importing this package loads none of them.
"""
