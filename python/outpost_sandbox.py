"""A directory of its own for each task: <working_dir>/<task id>, made before the function runs and removed after it.

A mark with the task's id lies in a directory of this endpoint on this host for as long as the sandbox exists, so that whoever
cleans up after a killed interpreter knows what is whose: several endpoints may share a working directory.
"""

import os
import shutil
import stat


class Sandboxes:
    """Sandboxes of one interpreter, one at a time."""

    def __init__(self, working_dir, marks_dir):
        self._working_dir = working_dir
        self._marks_dir = marks_dir
        self._current = None

    def enter(self, task_id):
        """Makes the sandbox of a task and goes there."""
        self._current = (os.path.join(self._marks_dir, task_id), os.path.join(self._working_dir, task_id))
        mark, path = self._current
        try:
            os.close(os.open(mark, os.O_CREAT | os.O_WRONLY, 0o600))
        except FileNotFoundError:  # Somebody tidied the directory away.
            os.makedirs(self._marks_dir, mode=0o700, exist_ok=True)
            os.close(os.open(mark, os.O_CREAT | os.O_WRONLY, 0o600))
        try:
            os.mkdir(path, 0o700)
        except FileExistsError:  # Of an attempt that was lost with its worker.
            remove_tree(path)
            os.mkdir(path, 0o700)
        os.environ["GC_TASK_SANDBOX_DIR"] = path
        os.chdir(path)

    def leave(self):
        """Removes the sandbox of the task that ended, if it has one."""
        if self._current is None:
            return
        mark, path = self._current
        self._current = None
        os.environ.pop("GC_TASK_SANDBOX_DIR", None)
        os.chdir("/")
        remove_tree(path)
        if not os.path.lexists(path):
            try:
                os.unlink(mark)
            except FileNotFoundError:
                pass


def remove_tree(path):
    """Removes a directory and what is in it, also what the function made read-only."""
    shutil.rmtree(path, ignore_errors=True)
    if os.path.lexists(path):
        for directory, _, _ in os.walk(path):
            for name in [directory] + [os.path.join(directory, entry) for entry in os.listdir(directory)]:
                if stat.S_ISDIR(os.lstat(name).st_mode):
                    os.chmod(name, 0o700)
        shutil.rmtree(path, ignore_errors=True)
