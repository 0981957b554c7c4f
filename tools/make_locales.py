"""Writes locales/en/nodeDefs.json from the nodes' schemas: python tools/make_locales.py

The other languages are written by hand, and so is main.json, whose names of categories and sockets stand in no schema.
"""

import workspace
from node_schemas import dump_texts, english_texts, load_schemas

ENGLISH = workspace.ROOT / "locales" / "en" / "nodeDefs.json"


def main() -> None:
    ENGLISH.write_text(dump_texts(english_texts(load_schemas())), "utf-8", newline="\n")
    print(ENGLISH)


if __name__ == "__main__":
    main()
