"""How files begin: the first bytes of each format, for what tells formats apart and for what reads them.

Nothing is imported here, so that a format can be recognised before anything that reads it is loaded.
"""

__all__ = [
    "AVML",
    "BZIP2",
    "DISKDUMP",
    "ELF",
    "FLATTENED",
    "GZIP",
    "HYPERV_STORAGE",
    "KDUMP",
    "LIME",
    "WINDOWS_32",
    "WINDOWS_64",
    "XZ",
    "ZSTD",
]

ELF = b"\x7fELF"

#: Of each record.
LIME = b"EMiL"
AVML = b"AVML"

#: Of kdump-compressed images, and of the format that came before, whose sub header is another.
KDUMP = b"KDUMP   "
DISKDUMP = b"DISKDUMP"

#: Of crash dumps of 64-bit and of 32-bit Windows.
WINDOWS_64 = b"PAGEDU64"
WINDOWS_32 = b"PAGEDUMP"

#: Of both copies of the header of a Hyper-V storage container: the number 0x01282014.
HYPERV_STORAGE = b"\x14\x20\x28\x01"

#: Wrappings: makedumpfile's, and compressed files.
FLATTENED = b"makedumpfile\0\0\0\0"
GZIP = b"\x1f\x8b\x08"
XZ = b"\xfd7zXZ\0"
BZIP2 = b"BZh"
ZSTD = b"\x28\xb5\x2f\xfd"
