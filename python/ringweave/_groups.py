"""For each process group of the program, a group of Ringweave's own.

Its messages can't meet the program's, whatever back end, tags and order these
have. It is made in the first call on the program's group, by all its members,
and goes when that group is destroyed or the interpreter ends.
"""

import ctypes
import hashlib
import threading
import weakref

import torch
import torch.distributed as dist
from torch.distributed import distributed_c10d as c10d


class _Entry:
    """What we have for one group of the program."""

    def __init__(self, group):
        self._lock = threading.Lock()  # of its own: opening waits for the peers
        self._own = None
        # Also at exit, while the interpreter is whole.
        self.close = weakref.finalize(group, self._close)

    def own(self, group):
        with self._lock:
            if self._own is None:
                own = _open(group)
                own.serve(group.group_name)
                self._own = own
            return self._own

    def _close(self):
        own, self._own = self._own, None
        if own is not None:
            own.close()


_entries = weakref.WeakKeyDictionary()  # by the program's group


def process_group(group=None):
    """The program's group: `group`, of that name, of a mesh, or the default."""
    if not dist.is_initialized():
        raise RuntimeError("no process group: call "
                           "torch.distributed.init_process_group() first")
    if isinstance(group, str):
        return c10d._resolve_process_group(group)
    if group is None:
        return dist.group.WORLD
    if hasattr(group, "mesh_dim_names"):  # a DeviceMesh, whose import is slow
        if group.ndim != 1:
            raise ValueError(f"got a mesh of {group.ndim} dimensions as group; "
                             "want one of its dimensions: mesh[name]")
        return group.get_group()
    if group == dist.GroupMember.NON_GROUP_MEMBER:
        raise ValueError("got a process group that this rank is not in; want "
                         "one that it is a member of")
    if not isinstance(group, dist.ProcessGroup):
        raise TypeError(f"got {group!r} as group; want a process group, its "
                        "name, or a mesh of one dimension")
    if not _lives(group):
        raise ValueError("got a process group that was destroyed; want one that "
                         "is there")
    return group


def _name(group):
    return process_group(group).group_name


def rank(group=None):
    """This process's in the program's group."""
    return dist.get_rank(process_group(group))


# Constants of a compiled graph.
_name._dynamo_marked_constant = rank._dynamo_marked_constant = True


def open_group(name):
    """Operators know groups by name, and come here where nothing serves one."""
    own_group(name)


def own_group(group=None):
    """torch.classes.ringweave.Group of the program's group. All its members
    come here in their first call."""
    group = process_group(group)
    entry = _entries.get(group)
    if entry is None:
        # A destroyed group whose object somebody still holds.
        for other in [other for other in list(_entries) if not _lives(other)]:
            _entries.pop(other).close()
        entry = _entries.setdefault(group, _Entry(group))
    return entry.own(group)


def call(operation, group, act):
    """One call of an operation: act(name of the group). Where its arguments are
    refused before the operation itself begins, the other ranks learn of it."""
    if torch.compiler.is_compiling():
        return act(_name(group))
    group = process_group(group)
    own = own_group(group)
    before = own.calls()
    try:
        return act(group.group_name)
    except Exception as error:
        if own.calls() == before:
            try:
                own.refuse(operation, str(error))
            except RuntimeError as common:
                raise common from error
        raise


def same_on_all(operation, group, make):
    """make()'s value, of tensors by name and whatever else, (tensors, others).

    A call of all ranks of `group`. Raises ValueError on all of them, in the same
    words, if make() does so on one, or tensors differ.
    """
    own = own_group(group)
    try:
        try:
            value = make()
        except ValueError as error:
            own.refuse(operation, str(error))
            raise
        own.agree(operation, {name: _digest(tensor)
                              for name, tensor in value[0].items()})
        return value
    except RuntimeError as common:
        raise ValueError(str(common).splitlines()[0]) from common


def _digest(tensor):
    tensor = tensor.detach().cpu().contiguous()
    data = ctypes.string_at(tensor.data_ptr(),
                            tensor.numel() * tensor.element_size())
    return (f"{tuple(tensor.shape)} of {tensor.dtype}, "
            f"{hashlib.blake2b(data, digest_size=16).hexdigest()}")


def _lives(group):
    return group in c10d._world.pg_map


# Who waits in a store keeps other threads out of it, and two threads may come to
# two groups in another order on each rank.
_opening = threading.Lock()


def _open(group):
    store = group.get_group_store()
    if not _opening.acquire(blocking=False):
        return _join(group, store.clone())  # a connection of its own, slower
    try:
        return _join(group, store)
    finally:
        _opening.release()


def _join(group, store):
    # Who comes here may not have used an operation yet, which loads their library.
    from ringweave import _operations  # noqa: F401
    if dist.get_backend(group) == "fake":
        raise RuntimeError("got a process group of the backend \"fake\", whose "
                           "other ranks don't run; want one whose ranks all "
                           "run, such as gloo")
    rank, size = dist.get_rank(group), dist.get_world_size(group)
    time_out = _time_out(group)
    # A later group of the same name has the same store, with what was left.
    # All members open as many groups as they were in under that name.
    opened = store.add(f"ringweave/opened/{rank}", 1)
    mine = dist.PrefixStore(f"ringweave/{opened}", store)
    try:
        # For control and data, which are in host memory both.
        gloo = dist.ProcessGroupGloo(mine, rank, size, timeout=time_out)
    except Exception as error:  # c10d has no common class of errors
        absent = [peer for peer in range(size)
                  if store.add(f"ringweave/opened/{peer}", 0) < opened]
        text = (f"ranks {absent} made no call within "
                f"{time_out.total_seconds():g} s" if absent
                else str(error).splitlines()[0])
        raise RuntimeError("can't join the ranks of the process group "
                           f"\"{group.group_name}\": {text}") from error
    own = dist.ProcessGroup(mine, rank, size)
    own._register_backend(torch.device("cpu"),
                          dist.ProcessGroup.BackendType.GLOO, gloo)
    own._set_default_backend(dist.ProcessGroup.BackendType.GLOO)
    return torch.classes.ringweave.Group(
        own.boxed(), "own", int(time_out.total_seconds() * 1000), "every")


def _time_out(group):
    """What init_process_group(timeout=...) or new_group(timeout=...) said."""
    for device in group._device_types:
        options = getattr(group._get_backend(device), "options", None)
        if options is not None:
            return options._timeout
    return c10d.default_pg_timeout
