"""restore.config: recipes are read, checked, changed, printed and compared."""

from __future__ import annotations

from pathlib import Path

import pytest

from restore.config import TrainConfig, differences, load_config
from restore.errors import UsageError
from restore.models import PRESETS
from restore.types import RECIPES


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "recipe.toml"
    path.write_text(
        'name = "small"\nnetwork = { preset = "half-naf-32", sigma_input = true }\n'
        '[[degradations]]\nsteps = [{ kind = "gaussian-noise", sigma = [0, 50] }]\n'
    )
    return path


@pytest.mark.parametrize("name", RECIPES)
def test_shipped_recipes_are_complete(name: str) -> None:
    config = load_config(name)
    assert config.name == name
    assert config.degradations


def test_a_preset_can_be_changed(recipe: Path) -> None:
    network = load_config(recipe, ["network.width=20"]).network
    assert network.width == 20
    assert network.sigma_input
    assert network.encoder == PRESETS["half-naf-32"].encoder


def test_adamw_alone_has_a_rate_of_its_own(recipe: Path) -> None:
    assert load_config(recipe).optimiser.lr == 0.02
    assert load_config(recipe, ["optimiser.kind=adamw"]).optimiser.lr == 2e-3
    assert load_config(recipe, ["optimiser.kind=adam", "optimiser.lr=0.1"]).optimiser.lr == 0.1


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("optimizer.lr=1", "did you mean optimiser"),
        ("optimiser.lrr=1", "did you mean lr"),
        ("network.widht=4", "did you mean width"),
        ("network.sigma_input=False", "network: sigma_input must be true or false"),
        ("network.channels=1", "network.channels: pictures have 3, not 1"),
        ("checkpoint.max_mb=1e-7", "checkpoint.max_mb"),
        ("network.preset=half-naf-33", "did you mean half-naf-32"),
        ('network.preset=["half-naf-32"]', "preset: unknown setting"),
        ("network.width=1000000000000", "impossible: width 1000000000000"),
        ("seed=100000000000000000000", "seed"),
        ('optimiser.kind=["adam"]', "optimiser.kind"),
        ('degradations=[{steps=[{kind="motion-blur", length=[1,2], anxiety=[5,5]}]}]', "anxiety"),
        ("degradations.0.steps.0.sgma=[0,5]", "sgma"),
        ("degradations.0.steps.0.kind=gausian-noise", "unknown kind 'gausian-noise'; did you mean gaussian-noise"),
        ("degradations.5.weight=1", "no degradations.5.weight"),
        ("loss={kind='mse', eps=1e-3}", r"loss: eps belongs to charbonnier and psnr; write loss=\{kind='mse'\}"),
        ("loss.lpips_net=vgg", "loss: lpips_net is of no use without a weight for lpips"),
        ("optimiser.lr=fast", "optimiser.lr"),
        ("optimiser.lr=-1", "optimiser.lr"),
        ("seed", "name=value"),
        ("data.told_share=2", "data.told_share"),
        ("budget={steps=1, minutes=1}", "either steps or minutes"),
        ("patches=[{start=0.5, size=16, batch_size=1}]", "starts at 0"),
        ("patches.1.start=0", "patches: two stages start at once; leave one of them out"),
        ('name="a/b"', "name"),
        ("checkpoint.max_mb=1e308", "checkpoint.max_mb"),
        ("data.cache_gb=1e300", "data.cache_gb"),
        ("data.frames_share=1e-300", "data.frames_share"),
        ("network.encoder.9.num_blocks=1", "there is no network.encoder.9.num_blocks to set"),
        ("optimiser.betas.x=1", "optimiser"),
    ],
)
def test_what_cannot_be_is_named_in_one_line(recipe: Path, setting: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        load_config(recipe, [setting])
    assert "\n" not in str(caught.value)


def test_telling_the_noise_level_needs_a_network_that_listens(recipe: Path) -> None:
    with pytest.raises(UsageError, match="sigma_input"):
        load_config(recipe, ["network.sigma_input=false", "data.told_share=0.5"])


def test_a_recipe_that_is_missing_or_broken(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="did you mean denoise-fast"):
        load_config("denoise-fsat")
    with pytest.raises(UsageError, match="No such file"):
        load_config(tmp_path / "none.toml")
    marked = tmp_path / "marked.toml"  # as editors on Windows begin a file
    marked.write_text("seed = 4\n" + load_config("denoise-fast").as_toml().replace("seed = 0\n", ""), "utf-8-sig")
    assert load_config(marked).seed == 4
    broken = tmp_path / "broken.toml"
    broken.write_text("name = ")
    with pytest.raises(UsageError, match="not TOML"):
        load_config(broken)


def test_what_is_printed_reads_back_to_the_same(recipe: Path, tmp_path: Path) -> None:
    config = load_config(recipe, ["optimiser.clip_norm=0.5", "schedule.kind=stable-decay"], {"steps": 7})
    printed = tmp_path / "printed.toml"
    printed.write_text(config.as_toml())
    assert load_config(printed) == config
    assert TrainConfig.model_validate(config.as_dict()) == config  # what checkpoints and weights hold


def test_items_of_lists_change_wherever_the_list_is_written(recipe: Path) -> None:
    settings = ["network.encoder.1.num_blocks=3", "patches.0.size=48", "optimiser.betas.0=0.8", "data.frames_num.0=3"]
    config = load_config(recipe, settings)
    assert config.network.encoder[1].num_blocks == 3
    assert config.network.encoder[0] == load_config(recipe).network.encoder[0]
    assert (config.patches[0].size, config.optimiser.betas[0], config.data.frames_num[0]) == (48, 0.8, 3)
    assert config.patches[1] == load_config(recipe).patches[1]


def test_a_budget_replaces_that_of_the_recipe(recipe: Path) -> None:
    assert load_config(recipe, budget={"steps": 7}).budget.progress(3, 1e9) == pytest.approx(3 / 7)
    assert load_config(recipe, budget={"minutes": 2}).budget.progress(10**9, 30) == pytest.approx(0.25)


@pytest.mark.parametrize("setting", ["budget.steps=3", "budget={steps=3}"])
def test_a_budget_that_is_stated_twice_is_refused(recipe: Path, setting: str) -> None:
    with pytest.raises(UsageError, match="--max-minutes or --max-steps states the budget"):
        load_config(recipe, [setting], {"minutes": 2})
    assert load_config(recipe, [setting]).budget.steps == 3


def test_patches_grow_with_the_run(recipe: Path) -> None:
    config = load_config(recipe)
    assert [config.patch_stage(progress).size for progress in (0.0, 0.69, 0.7, 1.0)] == [64, 64, 96, 96]


def test_differences_leave_out_what_teaches_nothing(recipe: Path) -> None:
    one = load_config(recipe).as_dict()
    other = load_config(recipe, ["data.workers=2", "checkpoint.minutes=1", "optimiser.lr=0.5"]).as_dict()
    assert differences(one, other) == {"optimiser.lr": (0.02, 0.5)}
