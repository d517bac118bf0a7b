"""What transformers, tokenizers and the lines of docs/export.md make of packages. argv: directory, docs/export.md; stdin: texts."""
import json, os, re, sys, torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from tokenizers import Tokenizer

root, docs = sys.argv[1:3]
texts = json.load(sys.stdin)
out = {}

for name in ['hf', 'hf-bin', 'hf-half']:
    directory = os.path.join(root, name)
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(directory)
    inputs = tokenizer('The ', return_tensors='pt')
    with torch.no_grad():
        tokens = model.generate(**inputs, max_new_tokens=12, do_sample=False, pad_token_id=0)[0].tolist()
        logits = model(inputs['input_ids']).logits[0, -1].tolist()
    out[name] = {'tokens': tokens, 'text': tokenizer.decode(tokens), 'logits': logits}

gpt2 = Tokenizer.from_file(os.path.join(root, 'gpt2.json'))
out['gpt2'] = [gpt2.encode(text).ids for text in texts]
out['decoded'] = [gpt2.decode(ids, skip_special_tokens=False) for ids in out['gpt2']]
chars = Tokenizer.from_file(os.path.join(root, 'chars.json'))
out['chars'] = {'ids': chars.encode('näh, né').ids, 'text': chars.decode(chars.encode('näh, né').ids)}

code = re.search(r"```python\n(.*?)```", open(docs).read(), re.S).group(1)
for name in ['int8', 'int4']:
    os.chdir(os.path.join(root, name))
    scope = {}
    exec(code.replace('release/shakespeare-int8/', ''), scope)
    out[name] = {layer: scope['weight_of'](layer).tolist() for layer in ['blocks.0.attn.qkv', 'lmHead']}
print(json.dumps(out))
