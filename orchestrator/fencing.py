"""Makes text of documents and of people harmless before it stands in a prompt: it can end no fence and start no turn.

What a model could take for the prompt's own signs becomes a look-alike that it reads as text. The generator does its part
too (`generator/tokens.py`: text of a message is never read as control tokens); engines behind the network may not.
"""

import re
import unicodedata

_INVISIBLE = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\xad\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f"
    "\ufdd0-\ufdef\ufeff\ufff9-\ufffb\U000e0000-\U000e0fff]"
)
"""Controls, and characters that no reader sees: they hide words or reverse them. The joiners of Persian, of Indic scripts
and of emoji stay."""
_ANGLE = "<＜﹤〈⟨"
_BAR = "|｜¦│ǀ"
_CONTROL = re.compile(
    rf"[{_ANGLE}](?=\s*[{_BAR}])"  # <|im_end|>, <|eot_id|>
    rf"|[{_ANGLE}](?=\s*/?\s*(?:s|bos|eos|pad|unk|think|tool_call|start_of_turn|end_of_turn|turn)\s*/?>)"
    rf"|[{_ANGLE}](?=\s*/?\s*source\b)"  # the fence of our templates
    rf"|[{_ANGLE}](?={'[' + _ANGLE + ']'}\s*/?\s*SYS\s*>)",
    re.IGNORECASE,
)
"""The bracket of what could end a source's fence or a turn of a chat, in the templates of the common model families."""
_INST = re.compile(r"\[(?=\s*/?\s*(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS)\s*\])", re.IGNORECASE)
_MARKERS = re.compile(r"(?<![\w\])])(?:\[\s{0,2}\d{1,3}(?:\s{0,2}[,;–-]\s{0,2}\d{1,3}){0,9}\s{0,2}\] ?)+")
"""`[1]`, which would pass for a source or for its marker. After a name it is an index of a program, and stays."""
_ROUND = str.maketrans("[]", "()")
_LABEL = re.compile(
    r"^(?=[ \t]*(?:#{1,6}[ \t]*|\*{1,3})?(?:system|user|human|assistant|ai|developer|tool|question|answer|short answer"
    r"|closest sentence|the text says"
    r"|instructions?|response|frage|antwort|anweisung(?:en)?|nutzer|benutzer|assistent)\b[ \t]*\*{0,3}:)",
    re.IGNORECASE | re.MULTILINE,
)
"""Where a line begins like a turn of a chat or like a part of a prompt."""
_IMAGE = re.compile(r"!\[([^\]\n]{0,300})\]\([^)\n]{0,2000}\)")
_EMBEDDED = re.compile(r"<\s*(?:img|iframe|script|object|embed|link|meta|form)\b[^>]{0,2000}>", re.IGNORECASE)
"""What a page loads by itself when an answer that copies it is shown: a way to carry words out."""


_TURN = re.compile(rf"[{_ANGLE}]\s*[{_BAR}]|<<SYS>>|\[/?INST\]|<(?:start|end)_of_turn>", re.IGNORECASE)


def forges_turns(text: str) -> bool:
    """Whether a text holds what chat templates begin and end turns with."""
    return _TURN.search(text) is not None


def embeds(text: str) -> bool:
    """Whether a page that shows this text as it is would load something by itself."""
    return _IMAGE.search(text) is not None or _EMBEDDED.search(text) is not None


def defused(text: str, *, keep_markers: bool = False) -> str:
    """The text with such signs made harmless: `‹|im_end|>`, `(1)`, `› System:`. All other characters stay.

    The markers stay in what the model said itself in earlier turns.
    """
    text = _INVISIBLE.sub("", unicodedata.normalize("NFC", text))
    text = _EMBEDDED.sub(" ", _IMAGE.sub(r"\1", text))
    text = _INST.sub("(", _CONTROL.sub("‹", text))
    if not keep_markers:
        text = _MARKERS.sub(lambda markers: markers.group().translate(_ROUND), text)
    return _LABEL.sub("› ", text)


def defused_title(text: str) -> str:
    """The same for a name that stands in quotes on one line."""
    return " ".join(defused(text).replace('"', "'").split())
