"""Users of the guest."""

from __future__ import annotations

import dataclasses
import json
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._base import ExecuteResult, Output
    from ._input import AsyncInput
    from ._sandbox import Sandbox

__all__ = ["SandboxUser", "User", "fields"]


@dataclasses.dataclass(frozen=True)
class User:
    """Who a user of the guest is.

    Attributes:
        name: the user's name.
        uid: the user's number.
        gid: the number of the user's own group.
        home: the home directory.
    """

    name: str
    uid: int
    gid: int
    home: str


@dataclasses.dataclass(frozen=True)
class SandboxUser(User):
    """A user of the guest; made by ``Sandbox.create_user``.

    Example:
        >>> async def who(sb):
        ...     alice = await sb.create_user("alice")
        ...     return (await alice.execute("id -un; pwd")).stdout
    """

    _sandbox: Sandbox = dataclasses.field(repr=False, compare=False)

    async def execute(
        self,
        command: str,
        timeout: float | None = 30.0,
        cwd: str | os.PathLike[str] | None = None,
        shell: str = "/bin/sh",
        on_stdout: Output | None = None,
        on_stderr: Output | None = None,
        exclusive: bool = False,
        *,
        stdin: AsyncInput | None = None,
        env: dict[str, str] | None = None,
        max_output: int | None = None,
    ) -> ExecuteResult:
        """Runs a command as this user; options as for ``Sandbox.execute``, but for ``user``."""
        return await self._sandbox.execute(
            command,
            timeout,
            cwd,
            shell,
            on_stdout,
            on_stderr,
            exclusive,
            self.name,
            stdin=stdin,
            env=env,
            max_output=max_output,
        )


def fields(text: str) -> dict[str, Any]:
    """The fields of a user, from JSON."""
    return dict(json.loads(text))
