"""Known vectors of request smuggling and ambiguity, each with what an honest gateway makes of it, and why.

`R9112` and `R9110` name sections of RFC 9112 (HTTP/1.1) and RFC 9110 (HTTP semantics).
"""

from __future__ import annotations

from dataclasses import dataclass

PREFIX = b"/serving/default/m"
SMUGGLED = b"GET " + PREFIX + b"/smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
SENTINEL = b"GET " + PREFIX + b"/sentinel HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
Seen = tuple[bytes, bytes, bytes]
"""Method, target and body as the engine got them."""
OK = (200,)
BAD = (400,)
CODING = (400, 501)
METHOD = (400, 405, 501)
VERSION = (400, 505)
LARGE = (413, 414, 431)
REFUSALS = frozenset((400, 405, 408, 413, 414, 417, 426, 431, 501, 505))


@dataclass(frozen=True, slots=True)
class Vector:
    """`status`: what the last answer may say; `seen`: what the engine got, in order, before the sentinel.

    A sentinel request with `Connection: close` follows the bytes unless `sentinel` is False; `absent` are headers that
    the engine must not get.
    """

    name: str
    data: bytes
    status: tuple[int, ...]
    why: str
    seen: tuple[Seen, ...] = ()
    sentinel: bool = True
    absent: tuple[bytes, ...] = ()

    @property
    def refused(self) -> bool:
        return not set(self.status) - REFUSALS


def head(*lines: bytes, method: bytes = b"POST", host: bytes = b"Host: x\r\n", path: bytes = b"/p") -> bytes:
    fields = b"".join(line + b"\r\n" for line in lines)
    return method + b" " + PREFIX + path + b" HTTP/1.1\r\n" + host + fields + b"\r\n"


def line(first: bytes, *fields: bytes) -> bytes:
    return b"\r\n".join((first, *(fields or (b"Host: x",)))) + b"\r\n\r\n"


def got(body: bytes = b"", method: bytes = b"POST", target: bytes = b"/p") -> tuple[Seen, ...]:
    return ((method, target, body),)


CHUNKED = b"Transfer-Encoding: chunked"
HELLO = b"5\r\nhello\r\n0\r\n\r\n"
CL5 = b"Content-Length: 5"
TARGET = PREFIX + b"/p"
GET = b"GET " + TARGET + b" HTTP/1.1"
GOT = got(b"", b"GET")

# fmt: off
TWO_LENGTHS = [
    Vector("cl.te", head(b"Content-Length: 6", CHUNKED) + b"0\r\n\r\nG", BAD, "R9112 6.1: both statements of length"),
    Vector("te.cl", head(CHUNKED, b"Content-Length: 4") + b"8c\r\n" + SMUGGLED, BAD, "R9112 6.1"),
    Vector("cl.te with a whole request behind", head(b"Content-Length: %d" % (5 + len(SMUGGLED)), CHUNKED) + b"0\r\n\r\n" + SMUGGLED, BAD, "R9112 6.1"),
    Vector("cl 0 and te", head(b"Content-Length: 0", CHUNKED) + HELLO, BAD, "R9112 6.1"),
    Vector("cl and te: identity", head(CL5, b"Transfer-Encoding: identity") + b"hello", CODING, "R9112 6.1"),
    Vector("cl and an unknown te", head(CL5, b"Transfer-Encoding: x") + b"hello", CODING, "R9112 6.1"),
    Vector("te with underscore beside cl", head(CL5, b"Transfer_Encoding: chunked") + b"hello", OK, "another name than Transfer-Encoding; engines that map _ to - must not get it", got(b"hello"), absent=(b"transfer_encoding",)),
    Vector("cl with underscore beside cl", head(CL5, b"Content_Length: 0") + b"hello", OK, "as above", got(b"hello"), absent=(b"content_length",)),
    Vector("TE is not Transfer-Encoding", head(CL5, b"TE: chunked") + b"hello", OK, "R9110 10.1.4: what the client takes, for one hop", got(b"hello"), absent=(b"te",)),
    Vector("connection names content-length", head(CL5, b"Connection: content-length") + b"hello", OK, "R9110 7.6.1: framing is stated anew for each hop", got(b"hello")),
    Vector("connection names host", head(CL5, b"Connection: host") + b"hello", OK, "as above", got(b"hello")),
]

TRANSFER_ENCODINGS = [
    Vector("chunked", head(CHUNKED) + HELLO, OK, "R9112 7.1", got(b"hello")),
    Vector("chunked, in capitals", head(b"TRANSFER-ENCODING: CHUNKED") + HELLO, OK, "R9112 7: names of codings have no case", got(b"hello")),
    Vector("tab after the colon", head(b"Transfer-Encoding:\tchunked") + HELLO, OK, "R9110 5.6.3: OWS is space or tab", got(b"hello")),
    Vector("space after chunked", head(b"Transfer-Encoding: chunked ") + HELLO, OK, "R9110 5.5: OWS is no part of a value", got(b"hello")),
    Vector("xchunked", head(b"Transfer-Encoding: xchunked") + HELLO, CODING, "R9112 6.1: an unknown coding"),
    Vector("chunkedx", head(b"Transfer-Encoding: chunkedx") + HELLO, CODING, "R9112 6.1"),
    Vector("identity", head(b"Transfer-Encoding: identity") + HELLO, CODING, "R9112 6.3: chunked is not the last"),
    Vector("chunked, identity", head(b"Transfer-Encoding: chunked, identity") + HELLO, CODING, "R9112 6.3"),
    Vector("identity, chunked", head(b"Transfer-Encoding: identity, chunked") + HELLO, CODING, "R9112 7: identity is no coding any more"),
    Vector("gzip, chunked", head(b"Transfer-Encoding: gzip, chunked") + HELLO, CODING, "R9112 6.1: a coding that is not undone here would be lost"),
    Vector("chunked, gzip", head(b"Transfer-Encoding: chunked, gzip") + HELLO, CODING, "R9112 6.3"),
    Vector("chunked, chunked", head(b"Transfer-Encoding: chunked, chunked") + HELLO, CODING, "R9112 6.1: chunked at most once"),
    Vector("two lines of chunked", head(CHUNKED, CHUNKED) + HELLO, CODING, "R9112 6.1: chunked at most once"),
    Vector("chunked, then identity in a second line", head(CHUNKED, b"Transfer-Encoding: identity") + HELLO, CODING, "R9112 6.3"),
    Vector("identity, then chunked in a second line", head(b"Transfer-Encoding: identity", CHUNKED) + HELLO, CODING, "R9112 6.3"),
    Vector("a parameter", head(b"Transfer-Encoding: chunked;q=1") + HELLO, CODING, "R9112 7.1: chunked has no parameters"),
    Vector("in quotes", head(b'Transfer-Encoding: "chunked"') + HELLO, CODING, "R9112 7: a token, not a string"),
    Vector("empty te", head(b"Transfer-Encoding:") + HELLO, CODING, "R9112 6.1: no coding at all"),
    Vector("a comma before", head(b"Transfer-Encoding: ,chunked") + HELLO, CODING, "R9110 5.6.1: no sender makes empty elements"),
    Vector("a comma behind", head(b"Transfer-Encoding: chunked,") + HELLO, CODING, "R9110 5.6.1"),
    Vector("space before the colon", head(b"Transfer-Encoding : chunked") + HELLO, BAD, "R9112 5.1: MUST reject"),
    Vector("tab before the colon", head(b"Transfer-Encoding\t: chunked") + HELLO, BAD, "R9112 5.1"),
    Vector("vertical tab before chunked", head(b"Transfer-Encoding: \x0bchunked") + HELLO, CODING, "R9110 5.5: control character"),
    Vector("form feed behind chunked", head(b"Transfer-Encoding: chunked\x0c") + HELLO, CODING, "R9110 5.5"),
    Vector("NUL behind chunked", head(b"Transfer-Encoding: chunked\x00") + HELLO, CODING, "R9110 5.5"),
    Vector("no-break space before chunked", head(b"Transfer-Encoding: \xa0chunked") + HELLO, CODING, "R9112 6.1: not the token chunked"),
    Vector("leading space", head(b" Transfer-Encoding: chunked", host=b"") + HELLO, BAD, "R9112 2.2: whitespace before the first field"),
    Vector("obs-fold before chunked", head(b"Transfer-Encoding:\r\n chunked") + HELLO, BAD, "R9112 5.2: MUST reject"),
    Vector("obs-fold with tab", head(b"Transfer-Encoding:\r\n\tchunked") + HELLO, BAD, "R9112 5.2"),
    Vector("te inside a fold", head(CL5, b"X: y\r\n Transfer-Encoding: chunked") + b"hello", BAD, "R9112 5.2"),
    Vector("te behind a bare CR", head(CL5, b"X: y\rTransfer-Encoding: chunked") + b"hello", BAD, "R9112 2.2: bare CR"),
    Vector("te behind a bare LF", head(CL5, b"X: y\nTransfer-Encoding: chunked") + b"hello", BAD, "R9112 2.2: only CRLF ends a line here"),
    Vector("te behind a NUL", head(CL5, b"X: y\x00\r\nTransfer-Encoding: chunked") + b"hello", BAD, "R9110 5.5"),
    Vector("NUL within the name", head(b"Transfer\x00-Encoding: chunked") + HELLO, BAD, "R9110 5.1: a name is a token"),
    Vector("a letter beyond ASCII in the name", head("Transfer-Encod\u0131ng: chunked".encode()) + HELLO, BAD, "R9110 5.1"),
    Vector("te in HTTP/1.0", line(b"POST " + TARGET + b" HTTP/1.0", b"Host: x", CHUNKED) + HELLO, CODING, "R9112 6.1: faulty framing"),
    Vector("te in HTTP/1.0 with keep-alive", line(b"POST " + TARGET + b" HTTP/1.0", b"Host: x", b"Connection: keep-alive", CHUNKED) + HELLO, CODING, "R9112 6.1"),
]

CONTENT_LENGTHS = [
    Vector("content-length", head(CL5) + b"hello", OK, "R9112 6.2", got(b"hello")),
    Vector("no space after the colon", head(b"Content-Length:5") + b"hello", OK, "R9110 5.6.3: optional", got(b"hello")),
    Vector("spaces and tabs around", head(b"Content-Length: \t5 \t") + b"hello", OK, "R9110 5.5", got(b"hello")),
    Vector("leading zeros", head(b"Content-Length: 0005") + b"hello", OK, "R9110 8.6: 1*DIGIT", got(b"hello")),
    Vector("a request within a body", head(b"Content-Length: %d" % len(SMUGGLED)) + SMUGGLED, OK, "R9112 6.3", got(SMUGGLED)),
    Vector("GET with a body", head(CL5, method=b"GET") + b"hello", OK, "R9110 9.3.1: framed as any other", got(b"hello", b"GET")),
    Vector("GET with a request as its body", head(b"Content-Length: %d" % len(SMUGGLED), method=b"GET") + SMUGGLED, OK, "R9110 9.3.1", got(SMUGGLED, b"GET")),
    Vector("HEAD with a body", head(CL5, method=b"HEAD") + b"hello", OK, "R9110 9.3.2", got(b"hello", b"HEAD")),
    Vector("no length at all", head() + b"hello\r\n\r\n", BAD, "R9112 6.3: length zero, so what follows is a request, and none", got()),
    Vector("twice the same", head(CL5, CL5) + b"hello", BAD, "R9110 8.6: reject, or take it as one; here: reject"),
    Vector("twice, differing", head(CL5, b"Content-Length: 0") + b"hello", BAD, "R9112 6.3: unrecoverable"),
    Vector("twice, differing, in other case", head(CL5, b"content-length: 0") + b"hello", BAD, "R9112 6.3"),
    Vector("a list of the same", head(b"Content-Length: 5, 5") + b"hello", BAD, "R9110 8.6"),
    Vector("a list", head(b"Content-Length: 5, 6") + b"hello", BAD, "R9112 6.3"),
    Vector("plus", head(b"Content-Length: +5") + b"hello", BAD, "R9110 8.6: digits only"),
    Vector("minus", head(b"Content-Length: -5") + b"hello", BAD, "R9110 8.6"),
    Vector("minus zero", head(b"Content-Length: -0") + b"", BAD, "R9110 8.6"),
    Vector("hex", head(b"Content-Length: 0x5") + b"hello", BAD, "R9110 8.6"),
    Vector("a space within", head(b"Content-Length: 0 5") + b"hello", BAD, "R9110 8.6"),
    Vector("an underscore within", head(b"Content-Length: 0_5") + b"hello", BAD, "R9110 8.6"),
    Vector("a fraction", head(b"Content-Length: 5.0") + b"hello", BAD, "R9110 8.6"),
    Vector("an exponent", head(b"Content-Length: 5e0") + b"hello", BAD, "R9110 8.6"),
    Vector("empty", head(b"Content-Length:") + b"hello", BAD, "R9110 8.6"),
    Vector("only spaces", head(b"Content-Length:   ") + b"hello", BAD, "R9110 8.6"),
    Vector("a word", head(b"Content-Length: five") + b"hello", BAD, "R9110 8.6"),
    Vector("in quotes too", head(b'Content-Length: "5"') + b"hello", BAD, "R9110 8.6"),
    Vector("digits beyond ASCII", head("Content-Length: \u0665".encode()) + b"hello", BAD, "R9110 8.6: DIGIT is ASCII"),
    Vector("digits beyond ASCII in one byte", head(b"Content-Length: 5\xb2") + b"hello", BAD, "R9110 8.6"),
    Vector("a vertical tab behind", head(b"Content-Length: 5\x0b") + b"hello", BAD, "R9110 5.5"),
    Vector("NUL behind", head(b"Content-Length: 5\x00") + b"hello", BAD, "R9110 5.5"),
    Vector("2^64 + 5", head(b"Content-Length: 18446744073709551621") + b"hello", (400, 413), "R9110 8.6: MUST anticipate overflow"),
    Vector("2^63", head(b"Content-Length: 9223372036854775808") + b"hello", (400, 413), "R9110 8.6"),
    Vector("a hundred digits", head(b"Content-Length: " + b"9" * 100) + b"hello", (400, 413), "R9110 8.6"),
    Vector("five thousand zeros", head(b"Content-Length: " + b"0" * 5000 + b"5") + b"hello", (200, 400), "R9110 8.6: five, if it is taken at all", got(b"hello")),
    Vector("a space before content-length's colon", head(b"Content-Length : 5") + b"hello", BAD, "R9112 5.1"),
    Vector("folded content-length", head(b"Content-Length:\r\n 5") + b"hello", BAD, "R9112 5.2"),
]

LINE_ENDS = [
    Vector("LF ends the request line", GET + b"\nHost: x\r\n\r\n", BAD, "R9112 2.2"),
    Vector("LF ends a field", GET + b"\r\nHost: x\n\r\n", BAD, "R9112 2.2"),
    Vector("LF LF ends the head", GET + b"\r\nHost: x\n\n", BAD, "R9112 2.2"),
    Vector("LF for the empty line", GET + b"\r\nHost: x\r\n\n", BAD, "R9112 2.2"),
    Vector("CR ends the request line", GET + b"\rHost: x\r\n\r\n", BAD, "R9112 2.2"),
    Vector("CR ends a field", GET + b"\r\nHost: x\rX: y\r\n\r\n", BAD, "R9112 2.2"),
    Vector("CR CR LF", GET + b"\r\nHost: x\r\r\n\r\n", BAD, "R9112 2.2"),
    Vector("CR CR for the empty line", GET + b"\r\nHost: x\r\n\r\r\n", BAD, "R9112 2.2"),
    Vector("LF CR", GET + b"\n\rHost: x\n\r\n\r", BAD, "R9112 2.2"),
    Vector("only LF", GET + b"\nHost: x\n\n", BAD, "R9112 2.2"),
    Vector("only CR", GET + b"\rHost: x\r\r", BAD, "R9112 2.2"),
    Vector("an empty line before", b"\r\n" + line(GET), OK, "R9112 2.2: SHOULD ignore one", GOT),
    Vector("whitespace before the first field", GET + b"\r\n X: y\r\nHost: x\r\n\r\n", BAD, "R9112 2.2"),
    Vector("a line of whitespace", GET + b"\r\nHost: x\r\n \r\n\r\n", BAD, "R9112 5.2"),
    Vector("obs-fold", line(GET, b"Host: x", b"X: y\r\n z"), BAD, "R9112 5.2"),
    Vector("obs-fold in Host", line(GET, b"Host:\r\n x"), BAD, "R9112 5.2"),
]
# fmt: on
