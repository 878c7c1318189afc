from pathlib import Path
import cv2, numpy as np, torch
from types import SimpleNamespace
def list_images(folder): return sorted(p for p in folder.rglob('*') if p.suffix in ('.jpg','.png','.webp'))
def read_photo(path):
    a=cv2.imdecode(np.frombuffer(path.read_bytes(),np.uint8),cv2.IMREAD_COLOR)
    return SimpleNamespace(pixels=torch.from_numpy(a[...,::-1].copy()).permute(2,0,1).float()/255)
