"""Run by test_store: writes objects for ever, and says on standard output which ones the store acknowledged."""

import sys
from pathlib import Path

from penstock.host.store import Store


def main() -> None:
    store = Store(Path(sys.argv[1]))
    names = {row.name: row.version for row in store.list("configmaps").rows}
    step = 0
    while True:
        step += 1
        name = f"object-{step % 7}"
        body = f'{{"step": {step}, "filler": "{"x" * (step % 5000)}"}}'.encode()
        if step % 11 == 0 and name in names:
            store.remove("configmaps", "default", name, body, expected=names.pop(name))
            print(f"gone {name} {store.version}", flush=True)
        else:
            names[name] = store.write(
                "configmaps",
                "default",
                name,
                body,
                uid=f"uid-{name}",
                owner_uids=["owner"],
                expected=names.get(name),
            )
            print(f"kept {name} {names[name]} {len(body)}", flush=True)


main()
