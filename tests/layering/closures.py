"""Closures that hypothesis makes: sizes about the limits, repeated names, every role."""

from hypothesis import strategies as st

from regpush.closure import Closure, Role
from tests.layering.graphs import item

_SIZES = st.sampled_from([0, 1, 4096, (256 << 10) - 1, 256 << 10, 1 << 20, 300 << 20, 1 << 40])
_NAMES = ("bash", "glibc", "glibc-locales", "openssl", "zlib")


@st.composite
def closures(draw: st.DrawFn, *, most: int = 30, unique_names: bool = False) -> Closure:
    """Up to `most` items; a directory's own code and generated items among them or not."""
    count = draw(st.integers(1, most))
    own = draw(st.integers(0, 6))
    items = []
    for number in range(count):
        name = f"item{number:02}" if unique_names else draw(st.sampled_from(_NAMES))
        below = draw(st.sets(st.sampled_from(items), max_size=4)) if items else ()
        items.append(
            item(
                name,
                version=str(number),
                size=draw(_SIZES),
                origin=draw(st.sampled_from(["", *_NAMES])),
                references=tuple(sorted(one.path for one in below)),
                role=Role.OWN if number >= count - own else Role.ORDINARY,
            )
        )
    paths = [one.path for one in items]
    roots = tuple(draw(st.lists(st.sampled_from(paths), unique=True, max_size=5)))
    closure = Closure.build((*roots, paths[-1]) if paths[-1] not in roots else roots, tuple(items))
    generated = [item(name, size=0, role=Role.GENERATED) for name in ("links", "essentials")]
    return closure.with_items(tuple(generated[: draw(st.integers(0, 2))]))
