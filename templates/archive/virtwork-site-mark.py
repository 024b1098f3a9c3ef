#!/usr/bin/python3 -I
"""The mark of the site that takes writes, an object beside the archive that two sites have in common.

    virtwork-site-mark read                             prints it, a line of JSON; nothing where there is none
    virtwork-site-mark write SITE SYSTEM TIMELINE       writes it, and reads it back; prints it

It ends with 0; with 1 where there is no mark to read; with 2 where the archive cannot be asked, which proves nothing.
"""

from __future__ import annotations

import json
import sys
import time

sys.path.insert(0, "/usr/local/lib/virtwork")
import lab  # noqa: E402
import store  # noqa: E402

MARK = "virtwork-site.json"


def main() -> int:
    words = sys.argv[1:]
    if not (words == ["read"] or len(words) == 4 and words[0] == "write" and words[3].isdigit()):
        lab.log((__doc__ or "").partition("\n\n")[2].strip())
        return 64
    try:
        lab.become_postgres()
        if words[0] == "write":
            mark = {"site": words[1], "system": words[2], "timeline": int(words[3]), "at": lab.stamp(time.time())}
            store.put(MARK, json.dumps(mark).encode() + b"\n")
            print(json.dumps(mark))
            return 0
        content = store.get(MARK)
        if content is None:
            return 1
        mark = json.loads(content)
        if not isinstance(mark, dict) or not {"site", "system", "timeline"} <= set(mark):
            raise store.Away(f"{MARK} holds something else")
        print(json.dumps(mark))
        return 0
    # Whatever it is: 1 would say that there is no mark.
    except Exception as error:
        lab.log(f"the archive does not say which site takes writes: {error}")
        return 2


sys.exit(main())
