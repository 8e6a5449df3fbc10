"""`spillway init` on a terminal: bad answers are asked for again, keys are not shown."""

import os
import pty
import select
import subprocess
import time

from harness import SPILLWAY


class Terminal:
    """A program on a terminal of its own."""

    def __init__(self, *argv):
        self.seen = ""
        self.at = 0
        self.child, self.fd = pty.fork()
        if self.child == 0:
            os.execv(argv[0], argv)

    def until(self, text):
        """Reads on until a text comes that was not waited for before."""
        deadline = time.monotonic() + 60
        while text not in self.seen[self.at:]:
            assert time.monotonic() < deadline, f"no {text!r} in {self.seen}"
            if select.select([self.fd], [], [], 1)[0]:
                self.seen += self.read()
        self.at = self.seen.index(text, self.at) + len(text)

    def read(self):
        try:
            return os.read(self.fd, 65536).decode()
        except OSError:  # how Linux says that nobody has the other end any more
            raise AssertionError(f"it ended: {self.seen}") from None

    def answer(self, question, text):
        self.until(question)
        os.write(self.fd, f"{text}\n".encode())

    def end(self):
        while select.select([self.fd], [], [], 60)[0]:
            try:
                self.seen += os.read(self.fd, 65536).decode()
            except OSError:
                break
        return os.waitstatus_to_exitcode(os.waitpid(self.child, 0)[1])


def test_questions_on_a_terminal(tmp_path):
    terminal = Terminal(SPILLWAY, "init", "--directory", str(tmp_path / "etc"))
    terminal.answer("used first", "con toso")
    terminal.until("'con toso' is not the name of a resource")
    terminal.answer("used first", "contoso")
    terminal.answer("its deployment", "gpt-4o")
    terminal.answer("Model that applications ask for [gpt-4o]", "")
    terminal.answer("PTUs", "15")
    terminal.answer("doesn't fit", "")
    terminal.answer("managed identity", "no")
    terminal.answer("Key of 'contoso' (it is not shown): ", "the-key-of-contoso")
    terminal.answer("first application [app]", "")
    assert terminal.end() == 0, terminal.seen
    assert "the-key-of-contoso" not in terminal.seen
    assert (tmp_path / "etc/credentials/contoso").read_text() == "the-key-of-contoso\n"
    checked = subprocess.run(
        [SPILLWAY, "check", "-c", str(tmp_path / "etc/spillway.toml")],
        env=os.environ | {"CREDENTIALS_DIRECTORY": str(tmp_path / "etc/credentials")}, text=True, capture_output=True)
    assert checked.returncode == 0 and checked.stdout.endswith("ok\n"), checked.stdout + checked.stderr
