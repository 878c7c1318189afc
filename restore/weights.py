import json
from safetensors.torch import save_file
def save_weights(path, network, metadata):
    t={k:v.contiguous() for k,v in network.state_dict().items()}
    p=path.with_suffix('.partial'); save_file(t, p, {"restore": json.dumps(metadata)}); p.replace(path)
