"""The tokens that stand for no text, and how a conversation is written with them: ChatML, as SmolLM2 and Qwen have it.

`<|endoftext|>` stands between documents and ends what a base model writes; `<|im_end|>` ends a turn, and so what a chat model
writes: a chat model's generation config names both as its ends. Reserved ones are for later, so that no model must be resized.
"""

END_OF_TEXT = "<|endoftext|>"
TURN_START, TURN_END = "<|im_start|>", "<|im_end|>"
PADDING = "<|pad|>"
RESERVED = tuple(f"<|reserved_{number}|>" for number in range(12))
SPECIAL_TOKENS = (END_OF_TEXT, TURN_START, TURN_END, PADDING, *RESERVED)
"""In the order of their ids, from 0."""

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
