"""Users of the guest."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._machine import ExecuteResult
    from ._sandbox import Sandbox
    from .sync import Sandbox as SyncSandbox

__all__ = ["SandboxUser", "SyncSandboxUser", "fields"]


@dataclasses.dataclass(frozen=True)
class _User:
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
class SandboxUser(_User):
    """A user of the guest; made by ``Sandbox.create_user``.

    Example:
        >>> async def who(sb):
        ...     alice = await sb.create_user("alice")
        ...     return (await alice.execute("id -un; pwd")).stdout
    """

    _sandbox: Sandbox = dataclasses.field(repr=False, compare=False)

    async def execute(self, command: str, *args: Any, **options: Any) -> ExecuteResult:
        """Runs a command as this user; options as for ``Sandbox.execute``, but for ``user``."""
        return await self._sandbox.execute(command, *args, user=self.name, **options)


@dataclasses.dataclass(frozen=True)
class SyncSandboxUser(_User):
    """A user of the guest; made by ``quicksand.sync.Sandbox.create_user``."""

    _sandbox: SyncSandbox = dataclasses.field(repr=False, compare=False)

    def execute(self, command: str, *args: Any, **options: Any) -> ExecuteResult:
        """See ``quicksand.SandboxUser.execute``."""
        return self._sandbox.execute(command, *args, user=self.name, **options)


def fields(text: str) -> dict[str, Any]:
    """The fields of a user, from JSON."""
    return {name: value for name, value in json.loads(text).items()}
