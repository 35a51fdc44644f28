"""Holds bills of materials against CycloneDX's schema: one line for each thing that is wrong.

The first file is false on purpose: a validator that lets it pass would let everything pass.
"""

import json
import sys
from pathlib import Path

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator


def faults(path: str) -> list[str]:
    """What the schema of its version says against a bill."""
    text = Path(path).read_text(encoding="utf-8")
    version = SchemaVersion.from_version(json.loads(text)["specVersion"])
    found = JsonStrictValidator(version).validate_str(text, all_errors=True) or []
    return [
        f"{'/'.join(map(str, fault.data.absolute_path))}: {fault.data.message[:300]}"
        for fault in found
    ]


def main() -> None:
    """Prints what is wrong with each file."""
    wrong, *bills = sys.argv[1:]
    if not faults(wrong):
        sys.exit("The validator lets a bill pass that has a component without a type")
    for path in bills:
        for fault in faults(path):
            print(f"{Path(path).name}: {fault}")


main()
