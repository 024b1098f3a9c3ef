"""What the run says: a line as each scenario ends, a table at the end."""

import threading


class Report:
    def __init__(self):
        self.results = []
        self.lock = threading.Lock()

    def __call__(self, result):
        with self.lock:
            self.results.append(result)
            print(f"{result.outcome:11} {result.seconds:6.1f} s  {result.story} · {result.title}", flush=True)
            for what, seconds in result.figures:
                print(f"{'':11} {seconds:6.1f} s    {what}", flush=True)
            if result.details:
                print("".join(f"    {line}\n" for line in result.details.splitlines()), flush=True)

    def table(self):
        """The scenarios by story, with their times in seconds."""
        stories = {}
        for result in self.results:
            stories.setdefault(result.story, []).append(result)
        lines = []
        for story, results in sorted(stories.items()):
            lines.append(f"{sum(r.seconds for r in results):7.1f} s              {story}")
            for r in results:
                lines.append(f"{r.seconds:7.1f} s  {r.outcome:11}   {r.title}")
                lines += [f"{seconds:7.1f} s  {'':11}     {what}" for what, seconds in r.figures]
        return "\n".join(lines)

    def failures(self):
        """What failed, told once more: the last lines of a long run are the ones that are kept and read."""
        lines = []
        for r in self.results:
            if r.outcome != "passed":
                lines += [f"{r.outcome}: {r.story} · {r.title}", *(f"    {line}" for line in r.error.splitlines()[:12])]
        return "\n".join(lines)

    def summary(self):
        passed = sum(r.outcome == "passed" for r in self.results)
        return passed, len(self.results) - passed
