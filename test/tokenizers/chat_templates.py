"""What transformers' apply_chat_template gives for chat-template.test.ts: a JSON list of texts, null for a refusal."""
import json
import sys
from pathlib import Path

import jinja2
from transformers import AutoTokenizer

root = Path(sys.argv[1])
given = json.loads((root / "cases.json").read_text(encoding="utf-8"))
tokenizers = {}
texts = []
for case in given["cases"]:
    family, options = case["family"], case["options"]
    if family not in tokenizers:
        tokenizers[family] = AutoTokenizer.from_pretrained(root / family)
    try:
        texts.append(tokenizers[family].apply_chat_template(
            given["conversations"][case["conversation"]], tokenize=False, tools=options.get("tools"),
            documents=options.get("documents"), add_generation_prompt=options.get("addGenerationPrompt", False),
            **options.get("variables", {})))
    except (jinja2.exceptions.TemplateError, TypeError, KeyError):
        texts.append(None)
print(json.dumps(texts))
