"""Python's client against the same server and caches. stdin: {endpoint, repo, caches: {ours, theirs}}"""
import json, os, sys
job = json.load(sys.stdin)
os.environ.update(HF_ENDPOINT=job['endpoint'], HF_HUB_DISABLE_XET='1', HF_HUB_DISABLE_TELEMETRY='1')
for name in [name for name, value in os.environ.items() if value == '']:
    del os.environ[name]
from huggingface_hub import snapshot_download, try_to_load_from_cache
out = {}
# What torchbind fetched is found without a connection.
out['ours'] = snapshot_download(job['repo'], cache_dir=job['ours'], local_files_only=True)
out['file'] = try_to_load_from_cache(job['repo'], 'model.safetensors', cache_dir=job['ours'])
out['again'] = snapshot_download(job['repo'], cache_dir=job['ours'], allow_patterns=['*.json', '*.safetensors'])
# What Python fetches, torchbind finds.
out['theirs'] = snapshot_download(job['repo'], cache_dir=job['theirs'])
print(json.dumps(out))
