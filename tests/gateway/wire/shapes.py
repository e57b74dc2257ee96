"""Bytes that are nearly requests: valid ones, of which a few parts are exchanged for what parsers have disagreed about."""

from __future__ import annotations

from hypothesis import strategies as st

METHODS = [b"GET", b"POST", b"HEAD", b"PUT", b"DELETE", b"OPTIONS", b"PATCH"]
TARGETS = [
    b"/",
    b"/p",
    b"/p?q=1",
    b"/a/b;c",
    b"/%2e%2e/",
    b"http://x/p",
    b"*",
    b"/p#f",
    b"//p",
    b"/\xff",
    b"/a b",
]
ENDS = [b"\r\n", b"\n", b"\r", b"\r\r\n", b"\n\r", b"\r\n ", b"\r\n\t", b"\x0b\r\n", b"\x00\r\n", b"", b" \r\n", b"\r\n\r\n"]  # fmt: skip
COLONS = [b": ", b":", b":\t", b" : ", b"\t: ", b":\x0b", b":\r\n ", b"::", b"", b":  ", b": \x00"]
VERSIONS = [b"HTTP/1.1", b"HTTP/1.0", b"HTTP/1.2", b"HTTP/2.0", b"HTTP/0.9", b"http/1.1", b"HTTP/1.1 ", b"HTTP/11", b""]  # fmt: skip
NAMES = [b"X", b"Host", b"Content-Length", b"Transfer-Encoding", b"Connection", b"TE", b"Trailer", b"Expect", b"Upgrade", b"content_length", b"", b"X\xff", b"X Y"]  # fmt: skip
VALUES = [b"", b"x", b"0", b"1", b"5", b"+5", b"-1", b"0x5", b"5, 5", b"5,6", b" 5", b"5 ", b"05", b"chunked", b"Chunked", b"xchunked", b"chunked, identity", b"identity, chunked", b"gzip, chunked", b",chunked", b"chunked,", b"\x0bchunked", b"close", b"keep-alive", b"keep-alive, close", b"100-continue", b"h2c", b"a\tb", b"\xe9", b"a\x00b", b"18446744073709551621", b"99999999999999999999999"]  # fmt: skip
SIZES = [b"5", b"05", b"0", b"00", b"-5", b"+5", b"0x5", b" 5", b"5 ", b"5;a", b'5;a="b"', b"5;a\n", b"5;\n", b"6", b"4", b"", b"g", b"FFFFFFFFFFFFFFFFF", b"10000000000000005", b"5\x00", b"5;a\rb"]  # fmt: skip
NOISE = [b"\x00", b"\n", b"\r", b" ", b"\t", b":", b"0", b"\xff", b"\r\n", b"\x0b", b",", b";"]

Part = tuple[bytes, list[bytes]]
"""What is written, and what may stand in its place."""


@st.composite
def _request(draw: st.DrawFn) -> list[Part]:
    method = draw(st.sampled_from(METHODS))
    parts: list[Part] = [
        (method, [*METHODS, b"get", b"G@T", b"", b"TRACE", b"CONNECT", b"PRI"]),
        (b" ", [b"  ", b"\t", b""]),
    ]
    parts += [(b"/p", TARGETS), (b" ", [b"  ", b"\t", b""]), (b"HTTP/1.1", VERSIONS), (b"\r\n", ENDS)]
    fields = [(b"Host", b"x"), *draw(st.lists(st.sampled_from([(b"X", b"y"), (b"Accept", b"*/*"), (b"Connection", b"keep-alive"), (b"Expect", b"100-continue")]), max_size=2))]  # fmt: skip
    body = draw(st.sampled_from([b"", b"", b"hello", b"GET /s HTTP/1.1\r\nHost: x\r\n\r\n"]))
    framing = draw(st.sampled_from(["none", "sized", "chunked", "chunked"]))
    if framing == "sized":
        fields.append((b"Content-Length", b"%d" % len(body)))
    elif framing == "chunked":
        fields.append((b"Transfer-Encoding", b"chunked"))
    for name, value in fields:
        parts += [(name, NAMES), (b": ", COLONS), (value, VALUES), (b"\r\n", ENDS)]
    parts.append((b"\r\n", ENDS))
    if framing == "sized":
        parts.append((body, [body + b"x", body[:-1]]))
    elif framing == "chunked":
        parts += _chunks(body, draw(st.booleans()))
    return parts


def _chunks(body: bytes, with_trailer: bool) -> list[Part]:
    parts: list[Part] = []
    if body:
        parts += [
            (b"%x" % len(body), SIZES),
            (b"\r\n", ENDS),
            (body, [body + b"x", body[:-1]]),
            (b"\r\n", ENDS),
        ]
    parts += [(b"0", SIZES), (b"\r\n", ENDS)]
    if with_trailer:
        parts += [(b"X-Sum", NAMES), (b": ", COLONS), (b"1", VALUES), (b"\r\n", ENDS)]
    return [*parts, (b"\r\n", ENDS)]


@st.composite
def near_requests(draw: st.DrawFn, max_changes: int = 3) -> bytes:
    """One to three requests in a row, with up to `max_changes` changes, perhaps cut off at the end."""
    parts = [part for request in draw(st.lists(_request(), min_size=1, max_size=3)) for part in request]
    written = [part for part, _ in parts]
    for _ in range(draw(st.integers(0, max_changes))):
        place = draw(st.integers(0, len(parts) - 1))
        how = draw(st.sampled_from(["exchange", "exchange", "exchange", "double", "drop", "noise", "noise"]))
        if how == "exchange":
            written[place] = draw(st.sampled_from(parts[place][1]))
        elif how == "double":
            written[place] *= 2
        elif how == "drop":
            written[place] = b""
        else:
            at = draw(st.integers(0, len(written[place])))
            written[place] = written[place][:at] + draw(st.sampled_from(NOISE)) + written[place][at:]
    data = b"".join(written)
    return data[: draw(st.integers(0, len(data)))] if draw(st.integers(0, 9)) == 0 else data


@st.composite
def pieces_of(draw: st.DrawFn, data: bytes) -> list[bytes]:
    """The same bytes, as a network may cut them."""
    cuts = sorted(draw(st.lists(st.integers(0, len(data)), max_size=6)))
    return [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True) if a < b]
