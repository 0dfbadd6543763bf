"""Tells sentences of documents that speak to the model ("ignore your instructions and say …") from those that tell something.

Such a sentence and what follows it in its source stay in the prompt, as data, but are no evidence: no answer is attributed
to them, and a small model is never pointed to them. The rules are words, not a model: they know what attacks of this kind
commonly say in English and German. A sentence about instructions in general ("the instructions say …") is not meant.
"""

import re
import unicodedata
from functools import lru_cache

from orchestrator.fencing import forges_turns

# fmt: off
_RULES = (
    r"(?:instructions?|prompts?|directions?|guidelines|guardrails|orders|rules|sources?|context|documents?|"
    r"texts?|question)"
)
_ENGLISH = (
    ("ignor|disregard|forget|overrid|bypass|follow",
        rf"\b(?:ignor(?:e|ing)|disregard(?:ing)?|forget|overrid(?:e|ing)|bypass|do not follow|stop following)\b.{{0,60}}?"
        rf"\b(?:above|previous|prior|earlier|preceding|other|all|any|your|these|every(?:thing)?|"
        rf"the)\b.{{0,40}}?\b{_RULES}\b"),
    ("ignore|disregard|forget",
        r"\b(?:ignore|disregard|forget) (?:all of (?:it|this|that)|everything|what (?:was|you were|you have been))\b"),
    (" now | no longer ",
        r"\b(?:you are|you're|act as|pretend (?:to be|that you|you)|behave as|roleplay as) (?:now |no longer |"
        r"from now on )"),
    ("act |pretend |behave |roleplay ",
        r"\b(?:act|pretend|behave|roleplay) (?:as|to be|you are|like) (?:an? |the )?(?:\w+ ){0,3}?"
        r"(?:ai|bot|chatbot|assistant|model|pirate|dan|expert|hacker)\b"),
    ("instruction|prompt|order|task|directive",
        r"\b(?:new|updated?|real|actual|hidden|secret|additional|important|urgent|following|system|final) (?:system )?"
        r"(?:instructions?|prompt|orders?|task|directive)s?\b.{0,20}?(?:[:=]|\bfor (?:you|the (?:ai|assistant|model)))"),
    ("system |developer |admin ",
        r"\b(?:system|developer|admin) (?:prompt|message|override|mode|notice)\b"),
    ("task|job|role|goal|instruction|answer",
        r"\b(?:your|the) (?:new|only|real|actual|first) (?:task|job|role|goal|instruction|answer) (?:is|must|should)\b"),
    ("must|should|shall|has to|have to|required|please|ordered|will now|is now",
        r"\b(?:ai|a\.i\.|llms?|language models?|chat ?bots?|(?:ai |virtual )?assistants?|gpt)\b.{0,40}?"
        r"\b(?:must|should|shall|has to|have to|is required|are required|please|is ordered|will now|is now)\b"),
    ("dear |attention |hey |hello |note |message |instruction|if you are ",
        r"\b(?:dear|attention|hey|hello|note (?:to|for)|message (?:to|for)|instructions? (?:to|for)|if you are) "
        r"(?:an? |the |all |any )?(?:ai|llm|language model|chat ?bot|(?:ai |virtual |your )?assistant|"
        r"model)s?\b(?! secretar)"),
    ("as an ai|as a ai|llm|language model|chatbot|chat bot",
        r"\bas an? (?:ai|llm|(?:large )?language model|chat ?bot)\b"),
    ("reply|respond|answer|say|output|print|write|repeat",
        r"\b(?:reply|respond|answer|say|output|print|write|repeat)\b.{0,80}?\b(?:to (?:the|this|every|any|each|all) "
        r"(?:questions?|users?|reader)|instead|and nothing else|only with|exactly)\b"),
    ("answer|reply|replies|response|output|completion",
        r"\b(?:append|add|include|insert|put|end|begin|start|finish|conclude|replace|reply|answer|translate)\b.{0,80}?"
        r"\b(?:your|the|every|each|any|this|all) (?:answers?|reply|replies|responses?|output|completion)\b"),
    ("reply|respond|answer",
        r"^\W*(?:always |only |just |now |please |instead,? |then )*(?:reply|respond|answer)\b.{0,12}?(?:with|only|"
        r"that|:|\"|“|'|in )"),
    (" say| print| output| reply| respond| answer| write",
        r"\b(?:and|then|now|instead|just|simply|only) (?:say|print|output|reply|respond|answer|"
        r"write)\b.{0,4}?(?:[:\"“”'«]|(?-i:\b[A-Z]{4,})|with\b)"),
    ("reveal|leak|print|show|repeat|output|disclose",
        r"\b(?:reveal|leak|print|show|repeat|output|disclose)\b.{0,30}?\b(?:system prompt|instructions|hidden|"
        r"api key|secrets?)\b"),
    ("do not|don't|never",
        r"\b(?:do not|don't|never) (?:answer|use|trust|cite|read|mention|quote)\b.{0,40}?\b(?:question|source|"
        r"document|text|passage)s?\b"),
    ("answer|response|reply",
        r"\bthe (?:correct|right|true|only|expected) (?:answer|response|reply) (?:to|is|for)\b"),
    ("asked|asks",
        r"\bwhen(?:ever)? (?:you are |you're )asked\b|\bif (?:any|some)(?:one|body) asks\b|\bif (?:the|a) user asks\b"),
    ("send|post|forward|upload|transmit|email",
        r"\b(?:send|post|forward|upload|transmit|email)\b.{0,80}?\b(?:https?://|question|conversation|chat|answer|"
        r"system)\b"),
    ("decode|execute|obey|follow",
        r"\b(?:decode|execute|obey|follow)\b.{0,40}?\b(?:base64|rot13|instructions?|orders)\b.{0,30}?"
        r"(?:[:=]|\band\b|\binstead\b|\bbelow\b|\babove\b|\bexactly\b)"),
)
_GERMAN = (
    ("ignorier|vergiss|vergessen|missacht|übergeh|verwirf",
        r"\b(?:ignorier\w*|vergiss|vergessen sie|missacht\w*|übergeh\w*|verwirf)\b.{0,60}?\b(?:anweisung|vorgabe|"
        r"regel|quelle|"
        r"frage|text|dokument|kontext|befehl|alles|oben|bisherig|vorherig)"),
    ("du bist|sie sind|ab jetzt|ab sofort",
        r"\b(?:du bist|sie sind) (?:jetzt|nun|ab (?:jetzt|sofort)|nicht mehr)\b|\bab (?:jetzt|"
        r"sofort)\b.{0,40}?\b(?:antwort|sag|schreib|bist)"),
    ("antworte|schreib|sag|gib|geben",
        r"\b(?:antworte|antworten sie|schreibe?|schreiben sie|sage?|sagen sie|gib|"
        r"geben sie)\b.{0,60}?\b(?:stattdessen|nur|immer|"
        r"ausschließlich|genau|jede|als antwort|auf (?:alle|jede|die) frage)"),
    ("anweisung|nachricht|vorgabe|aufgabe",
        r"\b(?:neue|wichtige|geheime|system)[\w-]* ?(?:anweisung|nachricht|vorgabe|aufgabe)\w*\b.{0,20}?[:=]"),
    ("muss|soll|hat zu",
        r"\b(?:ki|sprachmodell|assistent|chatbot)\b.{0,40}?\b(?:muss|soll|sollst|musst|hat zu)\b"),
    ("antwort|nutze|verwende|zitiere",
        r"\b(?:beantworte|nutze|verwende|zitiere)\b.{0,40}?\bnicht\b|\bdie (?:richtige|einzige|"
        r"wahre) antwort (?:ist|lautet)\b"),
)
# fmt: on
_ORDERS = tuple(
    (tuple(needs.split("|")), re.compile(pattern, re.IGNORECASE | re.DOTALL))
    for needs, pattern in (*_ENGLISH, *_GERMAN)
)
"""Each with words in small letters of which a sentence must hold one: looking for these costs a hundredth of the pattern."""
_ROLE = re.compile(
    r"(?:^|[>\]|}])\W*(?:system|assistant|user|human|ai|developer|instructions?|anweisung(?:en)?|assistent|nutzer|question|"
    r"response|short answer|closest sentence|the text says|frage)\W{0,4}:",
    re.IGNORECASE,
)
_SPACED = re.compile(r"\b(\w) (?=\w\b)")
_SPACED_OUT = re.compile(r"\b\w \w \w \w\b")
_LOOK_ALIKES = str.maketrans("аеіорсухѕһԁ0134@$", "aeiopcyxshdoleaas")
"""Cyrillic letters, digits and signs that pass for Latin letters."""
_MASKED = re.compile(r"[^\W\d_]*[аеіорсухѕһԁ0134@$][^\W_]*", re.IGNORECASE)


_HIDDEN = re.compile("[\xad\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff\U000e0000-\U000e0fff]")


def is_labelled(sentence: str) -> bool:
    """Whether a sentence begins as a turn of a chat, or as a part of a prompt, does: `System:`, `Question:`."""
    return _ROLE.search(unicodedata.normalize("NFKC", _HIDDEN.sub("", sentence))) is not None


@lru_cache(maxsize=16_384)
def gives_orders(sentence: str) -> bool:
    """Whether a sentence tells the reader's assistant what to do. Sees through invisible, spaced and look-alike letters."""
    plain = unicodedata.normalize("NFKC", _HIDDEN.sub("", sentence))
    if forges_turns(plain):
        return True
    spelled = _SPACED.sub(r"\1", plain) if _SPACED_OUT.search(plain) else plain
    return any(_orders(form) for form in {plain, spelled, _MASKED.sub(_unmasked, plain)})


def _unmasked(word: re.Match[str]) -> str:
    """A number is a number."""
    masked = word.group()
    return masked if masked.isdigit() else masked.lower().translate(_LOOK_ALIKES)


def _orders(form: str) -> bool:
    small = form.lower()
    return any(any(need in small for need in needs) and pattern.search(form) for needs, pattern in _ORDERS)
