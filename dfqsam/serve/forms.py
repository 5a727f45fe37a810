"""Bodies of requests, held to a limit while they come, and in memory only."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection

from python_multipart.exceptions import FormParserError
from starlette.datastructures import FormData, Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from dfqsam.serve.problems import RequestError

MAX_TEXT = 1 << 16  # bytes of a field that is no file, and of a JSON body
MAX_FIELDS = 8


class InMemory(MultiPartParser):
    """Starlette's parser would put a file of more than 1 MB on the disk, where patients' pictures are not to lie."""

    spool_max_size = 1 << 62

    def close(self) -> None:
        """Let go of all files, also of one that broke off."""
        for file in self._files_to_close_on_error:
            file.close()


def too_large(limit: int) -> RequestError:
    """The answer to a body of more than ``limit`` bytes."""
    size = f"{limit >> 20} MB" if limit >= 1 << 20 else f"{limit} bytes"
    return RequestError(413, f"The body is larger than {size}, which is the most that is taken.", "Send less of it.")


async def _pieces(request: Request, limit: int) -> AsyncGenerator[bytes, None]:
    """The body as it comes.

    Raises:
        RequestError: 413 for more than ``limit`` bytes, told from the header where that says so; 400 where it breaks
            off; 415 for a compressed one, whose size nothing tells.
    """
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise RequestError(415, "Compressed bodies are not taken.", "Send it without Content-Encoding.")
    length = request.headers.get("content-length", "")
    if length.isascii() and length.isdecimal() and (len(length) > 18 or int(length) > limit):
        raise too_large(limit)
    size = 0
    try:
        async for piece in request.stream():
            size += len(piece)
            if size > limit:
                raise too_large(limit)
            yield piece
    except ClientDisconnect:
        raise RequestError(400, "The body breaks off.", "Send it again.") from None


def _media_type(headers: Headers) -> str:
    return headers.get("content-type", "").partition(";")[0].strip().lower()


async def read_json(request: Request, limit: int = MAX_TEXT) -> bytes:
    """The body of a request in JSON.

    Raises:
        RequestError: as :func:`_pieces`; 415 for another media type.
    """
    if _media_type(request.headers) != "application/json":
        raise RequestError(415, "The body is no application/json.", "Send JSON, and say so in Content-Type.")
    return b"".join([piece async for piece in _pieces(request, limit)])


async def read_form(request: Request, limit: int, files: Collection[str], texts: Collection[str]) -> dict[str, bytes]:
    """The fields of a multipart form by their names, each once, none unknown.

    Args:
        limit: bytes of the whole body.
        files: names that must come as files; their own names are not looked at.
        texts: names that may come as either.

    Raises:
        RequestError: as :func:`_pieces`; 415 for another media type, 400 for a damaged form, one that breaks off
            before a part ends, or other fields.
    """
    if _media_type(request.headers) != "multipart/form-data":
        raise RequestError(415, "The body is no multipart/form-data.", "Send a form; /docs has an example.")
    parser = InMemory(
        request.headers, _pieces(request, limit), max_files=MAX_FIELDS, max_fields=MAX_FIELDS, max_part_size=MAX_TEXT
    )
    try:
        form = await parser.parse()
        return await _fields(form, files, texts)
    except (MultiPartException, FormParserError, ValueError, LookupError):
        raise RequestError(400, "The form is damaged, or has too many or too long fields.") from None
    finally:
        parser.close()


async def _fields(form: FormData, files: Collection[str], texts: Collection[str]) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for name, value in form.multi_items():
        if name not in (*files, *texts) or name in found:
            raise RequestError(400, "The form has an unknown field, or one twice.", f"Give {', '.join(files)} once.")
        if isinstance(value, UploadFile):
            found[name] = await value.read()
        elif name in files:
            raise RequestError(400, f"The field {name} is no file.", "Send it with a file name, as browsers do.")
        else:
            found[name] = value.encode("utf-8", "replace")
    for name in files:
        if name not in found:
            raise RequestError(400, f"The form has no {name}, or breaks off before its end.", f"Give the file {name}.")
    return found
