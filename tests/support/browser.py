"""A real browser without a screen: Chromium as Qt WebEngine has it, which pip alone installs.

Run as a module it is the browser's own process, which opens pages for whoever writes lines to it:
`python browser.py` reads one JSON request per line and answers each with one JSON line.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

TIMEOUT_S = 60.0


class Browser:
    """One page of a browser, which `opened` starts and ends."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def open(self, url: str) -> None:
        """Goes to a page, and waits until it is loaded; what its scripts do comes later."""
        self._ask(open=url)

    def run(self, script: str) -> Any:
        """What an expression of JavaScript gives in the page."""
        return self._ask(run=script)

    def until(self, script: str) -> Any:
        """Waits until an expression is true in the page, and gives its value."""
        deadline = time.monotonic() + TIMEOUT_S
        while not (value := self.run(script)):
            assert time.monotonic() < deadline, (
                f"{script} did not come true; the page: {self.text()[:2000]!r}"
            )
            time.sleep(0.1)
        return value

    def text(self) -> str:
        """All text that the page shows."""
        return str(self.run("document.body.innerText"))

    def sees(self, words: str) -> None:
        """Waits until the page shows these words."""
        self.until(f"document.body.innerText.includes({json.dumps(words)})")

    def photograph(self, path: Path) -> None:
        """Saves what is to be seen as a PNG."""
        self._ask(photograph=str(path))

    def _ask(self, **request: str) -> Any:
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(request) + "\n")
        process.stdin.flush()
        line = process.stdout.readline()
        assert line, f"the browser ended with status {process.wait()}"
        return json.loads(line)


def missing() -> str:
    """Why there is no browser here; empty where there is one."""
    try:
        started = subprocess.run(
            [sys.executable, __file__, "--check"], capture_output=True, text=True, timeout=TIMEOUT_S
        )
    except subprocess.TimeoutExpired:
        return "Qt WebEngine does not start within a minute"
    return "" if started.returncode == 0 else started.stderr.strip().splitlines()[-1]


@contextmanager
def opened(width: int = 1280, height: int = 900) -> Iterator[Browser]:
    """A browser with a window of this size, in pixels."""
    flags = "--no-sandbox --disable-gpu --disable-background-networking"
    process = subprocess.Popen(
        [sys.executable, __file__, str(width), str(height)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=os.environ
        | {
            "QT_QPA_PLATFORM": "offscreen",
            "QTWEBENGINE_CHROMIUM_FLAGS": flags,
            "QTWEBENGINE_DISABLE_SANDBOX": "1",  # as root there is none to be had
        },
    )
    try:
        yield Browser(process)
    finally:
        process.kill()
        process.communicate()


def _browse(width: int, height: int) -> None:
    from PySide6.QtCore import QSocketNotifier, QTimer, QUrl
    from PySide6.QtWebEngineWidgets import QWebEngineView
    from PySide6.QtWidgets import QApplication

    app = QApplication(sys.argv[:1])
    view = QWebEngineView()
    view.resize(width, height)
    view.show()

    def answer(value: Any) -> None:
        print(json.dumps(value), flush=True)

    def photograph(path: str) -> None:
        # What was drawn last is on its way to the window still.
        QTimer.singleShot(500, lambda: answer(view.grab().save(path, "PNG")))

    def asked() -> None:
        line = sys.stdin.readline()
        if not line:
            app.quit()
            return
        request = json.loads(line)
        if "open" in request:
            view.load(QUrl(request["open"]))
        elif "run" in request:
            view.page().runJavaScript(request["run"], 0, answer)
        else:
            photograph(request["photograph"])

    view.loadFinished.connect(answer)
    notifier = QSocketNotifier(sys.stdin.fileno(), QSocketNotifier.Type.Read)
    notifier.activated.connect(asked)
    app.exec()


if __name__ == "__main__":
    if sys.argv[1:] == ["--check"]:
        pass
    else:
        _browse(int(sys.argv[1]), int(sys.argv[2]))
