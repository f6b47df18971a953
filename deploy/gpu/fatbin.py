"""Leave in a CUDA library the machine code of one GPU architecture alone.

nvcc puts code for every architecture into the section `.nv_fatbin` of an ELF file, as a row of
containers (a header with magic, version, header size and content size; then entries, each with its
kind, header size, content size and architecture). CUDA finds a container by its address, so none
may move: what is kept slides to the front of its own container, and the rest becomes zeros, which
compress to nothing. The layout is that of CUDA's own fatbinary.h and of what `cuobjdump` lists.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

SECTION = b".nv_fatbin"
MAGIC = 0xBA55ED50
HEADER = struct.Struct("<IHHQ")  # magic, version, header bytes, content bytes
ENTRY = struct.Struct("<HHIQ")  # kind, version, header bytes, content bytes
ARCHITECTURE_AT = 28
MACHINE_CODE = 2
ALIGNMENT = 8


@dataclass(frozen=True, slots=True)
class Entry:
    """One image in a container: where its bytes are, and for which architecture (90: sm_90)."""

    start: int
    end: int
    kind: int
    architecture: int

    @property
    def is_machine_code(self) -> bool:
        return self.kind == MACHINE_CODE


@dataclass(frozen=True, slots=True)
class Container:
    start: int
    content: int
    end: int


def keep_architecture(library: bytearray, architecture: int) -> tuple[int, int]:
    """Changes `library` in place. Returns how many containers have code for it, and how many none.

    One without keeps its smallest image of another architecture: CUDA registers every container,
    and a launch from it then says that there is no kernel image, as it does with the whole library.
    """
    with_code = without = 0
    for container in list(containers(library)):
        entries = [entry for entry in entries_of(library, container) if entry.is_machine_code]
        wanted = [entry for entry in entries if entry.architecture == architecture]
        if wanted:
            with_code += 1
        else:
            without += 1
            wanted = sorted(entries, key=lambda entry: entry.end - entry.start)[:1]
        replace_content(library, container, wanted)
    return with_code, without


def replace_content(library: bytearray, container: Container, entries: list[Entry]) -> None:
    content = b"".join(library[entry.start : entry.end] for entry in entries)
    room = container.end - container.content
    library[container.content : container.end] = content + bytes(room - len(content))
    magic, version, header_bytes, _ = HEADER.unpack_from(library, container.start)
    HEADER.pack_into(library, container.start, magic, version, header_bytes, len(content))


def containers(library: bytes | bytearray) -> Iterator[Container]:
    """In order; between two there may be padding."""
    start, end = section(library)
    while start + HEADER.size <= end:
        magic, _, header_bytes, content_bytes = HEADER.unpack_from(library, start)
        if magic != MAGIC:
            start += ALIGNMENT
            continue
        content = start + header_bytes
        yield Container(start, content, content + content_bytes)
        start = content + content_bytes


def entries_of(library: bytes | bytearray, container: Container) -> Iterator[Entry]:
    start = container.content
    while start + ENTRY.size <= container.end:
        kind, _, header_bytes, content_bytes = ENTRY.unpack_from(library, start)
        (architecture,) = struct.unpack_from("<I", library, start + ARCHITECTURE_AT)
        end = start + header_bytes + content_bytes
        yield Entry(start, end, kind, architecture)
        start = end


def section(library: bytes | bytearray) -> tuple[int, int]:
    """Begin and end of SECTION in a 64-bit ELF file; an empty range where it has none."""
    (table,) = struct.unpack_from("<Q", library, 0x28)
    count, names_at = struct.unpack_from("<HH", library, 0x3C)
    headers = [struct.unpack_from("<IIQQQQIIQQ", library, table + 64 * i) for i in range(count)]
    names = headers[names_at][4]
    for name, _, _, _, offset, size, *_ in headers:
        end = library.find(b"\0", names + name)
        if library[names + name : end] == SECTION:
            return offset, offset + size
    return 0, 0
