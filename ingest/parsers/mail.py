"""Mail: headers, the message itself, and every attachment read as the document it is. EML, MSG and MBOX."""

import email
import email.policy
import re
from collections.abc import Iterator
from email.message import EmailMessage, Message
from email.utils import parsedate_to_datetime
from typing import cast

from ingest.documents import Metadata
from ingest.parsers import kreuzberg_extract
from ingest.parsers.encodings import decoded_head
from ingest.parsers.output import TextOutput
from ingest.parsers.reading import LimitExceeded, Source, reason
from ingest.parsers.text_types import HTML
from mesh.errors import InvalidInput, MurpheyError

MAX_FOUND_CHARACTERS = 500
MAX_MESSAGE_BYTES = 256 * 1024 * 1024
ENCRYPTED = "The message is encrypted. Decrypt it and upload it again."

_FROM = re.compile(rb"From \S+[ \t].*\d\d:\d\d")
_HEADERS = ("Subject", "From", "To", "Cc", "Date")


def read_message(source: Source, output: TextOutput) -> Metadata:
    """One message (RFC 5322)."""
    return _read(decoded_head(source.data()), source, output)


def read_outlook(source: Source, output: TextOutput) -> Metadata:
    """One message of Outlook (MSG)."""
    text, found, children = kreuzberg_extract.extract_with_children(source.data(), source.media_type)
    output.write(text.rstrip() + "\n")
    for name, inner in children:
        with output.member(name):
            output.write(f"\nAttachment: {name}\n\n{inner.strip()}\n")
    return found


def read_mailbox(source: Source, output: TextOutput) -> Metadata:
    """Messages one after another, each under its subject and with its number (mbox, RFC 4155)."""
    number = 0
    for data in _messages(source):
        number += 1
        with output.member("", number):
            try:
                _read(data, source, output, number)
            except LimitExceeded:
                raise
            except MurpheyError as error:
                output.write(f"Message {number} was not read: {reason(error)}\n\n")
    return {"messages": number}


def _read(data: bytes, source: Source, output: TextOutput, number: int = 0) -> Metadata:
    message = cast(EmailMessage, email.message_from_bytes(data, policy=email.policy.default))
    if message.get_content_type() in ("multipart/encrypted", "application/pkcs7-mime", "application/x-pkcs7-mime"):
        raise InvalidInput(ENCRYPTED)
    headers = {name: value for name in _HEADERS if (value := _header(message, name))}
    if number:
        output.write(f"# {headers.get('Subject', f'Message {number}')}\n\n")
    output.write("".join(f"{name}: {value}\n" for name, value in headers.items()) + "\n")
    body = message.get_body(("plain", "html"))
    if body is not None:
        output.write(_body(cast(EmailMessage, body)).strip() + "\n\n")
    for attachment in _attachments(message, body):
        _read_attachment(attachment, source, output, number)
    return _found(headers)


def _header(message: EmailMessage, name: str) -> str:
    try:
        values = message.get_all(name, [])
    except (ValueError, TypeError, IndexError, AttributeError):  # the standard library fails on some malformed ones
        return ""
    return " ".join(", ".join(str(value) for value in values).split())


def _body(part: EmailMessage) -> str:
    text = _text(part)
    if part.get_content_type() != HTML:
        return text
    return kreuzberg_extract.extract_text(text.encode("utf-8", "replace"), HTML)


def _text(part: EmailMessage) -> str:
    try:
        return str(part.get_content())
    except (LookupError, ValueError, KeyError):  # an unknown charset or a broken encoding
        payload = part.get_payload(decode=True)
        return payload.decode("utf-8", "replace") if isinstance(payload, bytes) else ""


def _attachments(message: EmailMessage, body: object) -> Iterator[EmailMessage]:
    """All leaves but the body and its other forms; a message within the message is one leaf."""
    if message.get_content_type() == "multipart/alternative" and body is not None:
        return
    if not message.is_multipart() or message.get_content_type() == "message/rfc822":
        if message is not body and message.get_content_maintype() != "multipart":
            yield message
        return
    for part in message.iter_parts():
        if part is not body:
            yield from _attachments(cast(EmailMessage, part), body)


def _read_attachment(part: EmailMessage, source: Source, output: TextOutput, number: int) -> None:
    name = part.get_filename() or part.get_content_type()
    try:
        source.budget.take_member()
        data = _data(part)
        source.budget.take_bytes(len(data))
        with output.member(name, number):
            output.write(f"Attachment: {name}\n\n")
            source.read_data(data, name, output)
            output.write("\n\n")
    except LimitExceeded:
        raise
    except MurpheyError as error:
        output.write(f"Attachment: {name} (not read: {reason(error)})\n\n")


def _data(part: EmailMessage) -> bytes:
    if part.get_content_type() == "message/rfc822":
        inner = part.get_payload(0)
        return inner.as_bytes() if isinstance(inner, Message) else b""
    payload = part.get_payload(decode=True)
    return payload if isinstance(payload, bytes) else b""


def _found(headers: dict[str, str]) -> Metadata:
    found: Metadata = {}
    if "Subject" in headers:
        found["title"] = headers["Subject"][:MAX_FOUND_CHARACTERS]
    if "From" in headers:
        found["authors"] = [headers["From"][:MAX_FOUND_CHARACTERS]]
    try:
        found["created"] = parsedate_to_datetime(headers["Date"]).isoformat()
    except (KeyError, ValueError, TypeError):
        found.pop("created", None)
    return found


def _messages(source: Source) -> Iterator[bytes]:
    """The messages of a mailbox; a line that begins with `From ` after an empty line begins one."""
    lines: list[bytes] = []
    size, empty = 0, True
    with source.path.open("rb") as file:
        for line in file:
            if empty and _FROM.match(line):
                if lines:
                    yield b"".join(lines)
                lines, size = [], 0
            else:
                lines.append(line[1:] if re.match(rb">+From ", line) else line)
                size += len(line)
                if size > MAX_MESSAGE_BYTES:
                    raise InvalidInput(f"A message has more than {MAX_MESSAGE_BYTES} bytes; split the mailbox.")
            empty = not line.strip()
    if lines:
        yield b"".join(lines)
