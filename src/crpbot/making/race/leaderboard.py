"""`crpbot.leaderboard`: from what a person typed to a race, and to the files that tell of it."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from crpbot.disk import write_whole
from crpbot.errors import RecipeError
from crpbot.making.race.board import Leaderboard, add_up
from crpbot.making.race.contenders import BASELINES, Contender
from crpbot.making.race.protocol import check_same_question
from crpbot.making.race.race import Done, Race, Watch, run_race
from crpbot.making.race.words import markdown
from crpbot.making.variants import VARIANTS, variant_name, variant_recipe
from crpbot.market.source import Source, open_source
from crpbot.model.recipe import Recipe, load_recipe

OTHERS = ("v6", "v8")
"""Recipes that stand beside the reference unless others are named."""
DEFAULT_FOLDS = 3
PICK = "pick.toml"

_WHY = {
    "majority": "the commonest class, always",
    "prior": "the shares of the classes, always",
    "one-feature": "the best rule of one feature",
    "logistic": "a linear model of all features",
    "boosting": "gradient boosted trees",
}


def _clock() -> int:
    return int(datetime.now(UTC).timestamp() * 1000)


def leaderboard(
    candles: Source | Path | str | None,
    *,
    symbols: Sequence[str] = (),
    recipe: Recipe | str = "v7",
    recipes: Sequence[Recipe | str] = OTHERS,
    contenders: Sequence[str] = (),
    folds: int = DEFAULT_FOLDS,
    seed: int = 0,
    workers: int = 1,
    out: Path | str = Path("runs/leaderboard"),
    tried: int = 0,
    now: Callable[[], int] = _clock,
    watch: Watch = lambda _, __: None,
    done: Done = lambda _, __: None,
) -> Leaderboard:
    """Let every contender answer the same question of the same rows, and write what it adds up to.

    The last test block is left alone until the choice is written. The same call goes on with a race that was cut off, and reads
    one that is over. The recipe that was picked is written to `pick.toml`, with all tries as its `trials`.

    Args:
        candles: a source, or where they are: a file, a folder, or `synthetic:NAME`; None is the bundled sample.
        symbols: to race on; all that there are by default.
        recipe: that asks the question: label, neutral share and split are its own. It stands in the race too.
        recipes: that stand beside it and its variants, by name, as a file or as they are.
        contenders: names of those that stand in the race; all by default.
        folds: of the walk-forward; all but the last, which is the split of `recipe`, are for choosing.
        seed: of whatever is drawn.
        workers: contenders side by side; 0 takes as many as fit. With more than 1, a script needs
            `if __name__ == "__main__":`.
        out: folder of this race and no other.
        tried: recipes that were tried on these candles before, for counting.
        now: the clock, in milliseconds of UTC.
        watch: is told of each epoch.
        done: is told of each answer.

    Raises:
        CrpbotError: a contender asks another question, the folds are too many, the folder is of another race or other versions,
            or the candles cannot be used.

    """
    if folds < 1 or tried < 0 or seed < 0:
        raise RecipeError(f"folds must be at least 1, tried and seed at least 0, found {folds}, {tried} and {seed}; correct them")
    source = (
        candles
        if isinstance(candles, Source)
        else open_source(None if candles is None else str(candles), symbols=symbols, seed=seed)
    )
    reference = load_recipe(recipe) if isinstance(recipe, str) else recipe
    race = Race(
        reference=reference,
        contenders=_contenders(reference, recipes, contenders),
        markets={symbol: source.read(symbol) for symbol in symbols or source.symbols},
        folds=folds,
        seed=seed,
    )
    out = Path(out)
    ran = run_race(race, out, workers=workers, now=now, watch=watch, done=done)
    board = add_up(ran, source=source.name, tried=tried)
    write_whole(out / "leaderboard.json", board.to_json())
    write_whole(out / "leaderboard.md", markdown(board))
    if board.picked is not None:
        write_whole(out / PICK, board.picked.to_toml())
    return board


def _contenders(reference: Recipe, recipes: Sequence[Recipe | str], names: Sequence[str]) -> tuple[Contender, ...]:
    """Return those that stand in the race: baselines, the reference, other recipes and variants of the reference."""
    found = [Contender(name=name, recipe=reference, baseline=name, why=_WHY[name]) for name in BASELINES]
    others = [load_recipe(one) if isinstance(one, str) else one for one in recipes]
    for other in others:
        check_same_question(reference, other)
    networks = [reference, *(other for other in others if other != reference)]
    found += [Contender(name=one.name, recipe=one, why=one.description) for one in networks]
    variants = {variant_name(reference, variant): variant for variant in VARIANTS}
    known = [*(one.name for one in found), *variants]
    for name in known:
        if known.count(name) > 1:
            raise RecipeError(f"every contender must have a name of its own, found {name} twice; rename one")
    for name in names:
        if name not in known:
            raise RecipeError(f"a contender must be one of {', '.join(known)}; found {name!r}; name its recipe with --recipes")
    found += [
        Contender(name=name, recipe=variant_recipe(reference, one), why=one.why, variant=True)
        for name, one in variants.items()
        if not names or name in names  # one that cannot be made of this recipe may be left out
    ]
    return tuple(one for one in found if not names or one.name in names)
