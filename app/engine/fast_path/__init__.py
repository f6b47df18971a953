"""Plain streamed chats, written without a Python object per token that is only there to be printed.

vLLM's own serving object renders, validates, submits, and words the first and the last part of each
stream and every error. Only the middle, chunks that differ in their text alone, is written here, by
the pattern of the chunk that vLLM has just worded itself. What is not on the list of plain requests
takes vLLM's own route, and so does an output that is in any way unusual.

Plain chats with short prompts, streamed or not, also get to the engine without that serving object
(`direct_chats.py`), by what it would do for all of them alike.
"""
