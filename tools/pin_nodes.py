"""Adds new nodes, and new optional inputs of old ones, to tests/public_nodes.json: python tools/pin_nodes.py

Nodes that have landed do not change in a way that breaks a saved workflow: such a change is reported and not written.
To make it anyway, edit the file by hand and record it in CHANGELOG.md.
"""

import sys

from node_schemas import PINNED, breaks, dump_pinned, interface_of, load_schemas, read_pinned


def main() -> None:
    landed = read_pinned()
    today = {schema.node_id: interface_of(schema) for schema in load_schemas()}
    broken = [f"{node_id} is gone: nodes/host/renames.py keeps old ids working" for node_id in set(landed) - set(today)]
    for node_id in sorted(set(landed) & set(today)):
        broken += [f"{node_id}: {what}" for what in breaks(landed[node_id], today[node_id])]
    if broken:
        sys.exit("Nothing was written, because saved workflows would break:\n" + "\n".join(broken))
    PINNED.write_text(dump_pinned(today), "utf-8", newline="\n")
    print(f"{PINNED}: {len(today)} nodes, new: {', '.join(sorted(set(today) - set(landed))) or 'none'}")


if __name__ == "__main__":
    main()
