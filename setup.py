"""Package metadata and dependencies, each with the reason it is here."""

from pathlib import Path

from setuptools import find_packages, setup

REQUIRES = [
    "numpy>=1.26",  # arrays
    "pillow>=10.3",  # image decoding
    "torch>=2.5",  # tensors
    "transformers>=5.0",  # models, tokenizers, Trainer
    "safetensors>=0.4",  # weights
    "tokenizers>=0.20",  # nano's tokenizer
    "scipy>=1.12",  # rank correlations, logistic fits, isotonic regression
    "pyarrow>=15",  # CSV, Parquet, columnar labels
    "pyyaml>=6",  # cards
    "jsonargparse[signatures]>=4.35",  # typed configuration with strict keys
    "filelock>=3.12",  # one writer per table of scores
    "tqdm>=4.66",  # progress bars
    "matplotlib>=3.8",  # plots of the report
    "jinja2>=3.1",  # template of the report
]
EXTRAS = {
    "train": ["accelerate>=1.1", "peft>=0.14", "tensorboard>=2.14", "deepspeed>=0.16; platform_system == 'Linux'"],
    "video": ["decord>=0.6; platform_machine == 'x86_64' or platform_machine == 'AMD64'", "av>=12"],
    "legacy": ["sentencepiece>=0.2"],  # tokenizer files of the published mPLUG-Owl2 checkpoints
    "quant": ["bitsandbytes>=0.44", "torchao>=0.7"],
    "wandb": ["wandb>=0.16"],  # train.report_to
    "liger": ["liger-kernel>=0.5; platform_system == 'Linux'"],  # train.liger
    "cluster": ["ray[data]>=2.40"],
    "pandas": ["pandas>=2.1"],  # results of `evaluate` as DataFrames
    "generate": ["scikit-image>=0.22", "scikit-learn>=1.4", "av>=12"],  # photographs inside packages, video coders
    "dev": [
        *("pytest>=8", "pytest-xdist>=3", "pytest-timeout>=2", "hypothesis>=6"),
        *("ruff>=0.8", "mypy>=1.13", "types-PyYAML"),
        *("setuptools>=68", "wheel>=0.42"),  # a test builds the package
        *("pandas>=2.1", "datasets>=2.20"),  # labels as a user of these holds them
    ],
}
EXTRAS["dev"] += EXTRAS["quant"] + EXTRAS["wandb"] + EXTRAS["cluster"]  # no test is skipped for a missing library

setup(
    name="q_align",
    version="0.1.0",
    description="Teach multimodal models to rate what people see: image quality, aesthetics and video quality.",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10,<3.14",
    # two top-level folders are installed too: data/ as q_align/dataset_cards, configs/ as q_align/configs
    packages=[*find_packages(include=["q_align", "q_align.*"]), "q_align.dataset_cards", "q_align.configs"],
    package_dir={"q_align.dataset_cards": "data", "q_align.configs": "configs"},
    package_data={
        "q_align.dataset_cards": ["*.yaml"],
        "q_align.configs": ["*.yaml", "*/*.yaml"],
        "q_align": ["py.typed", "**/*.json", "**/*.yaml", "**/*.safetensors", "**/*.html", "**/*.css"],
    },
    install_requires=REQUIRES,
    extras_require=EXTRAS,
    entry_points={"console_scripts": ["q-align=q_align.cli.main:main"]},
)
