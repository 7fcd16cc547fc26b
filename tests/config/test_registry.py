import pytest

from emergent_icl.config.registry import Registry, nearest_options


def test_entries_are_found_by_name_and_keep_their_order():
    registry = Registry("thing")
    registry.register("b")(2)
    registry.register("a")(1)
    assert registry["a"] == 1
    assert list(registry) == ["b", "a"]
    assert len(registry) == 2


def test_an_unknown_name_suggests_the_nearest():
    registry = Registry("thing")
    registry.register("transformer")(1)
    with pytest.raises(
        KeyError, match=r"thing 'transfromer' is unknown.*did you mean 'transformer'"
    ):
        registry["transfromer"]


@pytest.mark.parametrize(
    ("sections", "suggestion"),
    [
        ("", ""),
        ("a", "; did you mean 'a.depth'?"),
        ("ab", "; did you mean 'b.depth' or 'a.depth'?"),
        ("abcd", "; did you mean 'd.depth', 'c.depth', or 'b.depth'?"),
    ],
)
def test_up_to_three_options_of_the_same_name_are_suggested(sections, suggestion):
    assert nearest_options("depth", [f"{section}.depth" for section in sections]) == suggestion


def test_a_name_cannot_be_registered_twice():
    registry = Registry("thing")
    registry.register("a")(1)
    with pytest.raises(ValueError, match="already registered"):
        registry.register("a")(2)


def test_facts_about_entries():
    registry = Registry("thing", reads=("image",), is_large=True)
    registry.register("small", is_large=False)(1)
    registry.register("other")(2)
    assert (registry.about("small").reads, registry.about("small").is_large) == (("image",), False)
    assert registry.about("other").is_large
    # A config may contain an unknown name, which its check reports.
    assert registry.about("nothing").is_large
    with pytest.raises(TypeError, match="thing 'odd': unknown facts is_green, is_red"):
        registry.register("odd", is_red=True, is_green=True)
    assert "odd" not in registry


def test_a_registry_includes_its_base():
    base = Registry("thing")
    extended = Registry("special thing", base)
    base.register("plain")(1)
    extended.register("special")(2)
    assert dict(extended) == {"plain": 1, "special": 2}
    assert dict(base) == {"plain": 1}
    again = extended.register("plain")
    with pytest.raises(ValueError, match="special thing 'plain' is already registered"):
        again(3)
