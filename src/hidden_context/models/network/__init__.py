"""Networks: loading backbones and adapters, output layers, precision, threads and tokenizers."""
