"""Photographs to latents and back: layers, entropy models, exact arithmetic, the fusion decoder.

- `layered`: `LayeredCodec`, the whole
- `shape`: `CodecConfig`, its shape as files describe it
- `global_layer`: `GlobalLayer`: what a photograph shows, one vector
- `vector_search`: `VectorSearch`: the symbols that keep the most of it
- `spatial_layer`: `SpatialLayer`: where things are, at stride 16
- `detail`: `DetailLayer`: what it looks like, at stride 16
- `latent_search`: `LatentSearch`: its latents, fitted to one photograph
- `fusion`: `FusionDecoder`: latents to a photograph
- `modulation`: its blocks, which a condition modulates
- `realism`: `RealismBranch`: what makes its pictures look like photographs
- `gains`: one model, many rates
- `entropy`: entropy models and symbols, a package
- `integer`: the exact arithmetic that parsing rests on, a package
- `budget`: streams at a quality, or within a number of bytes
- `tiles`: large photographs, tile by tile
- `cosine`: initial weights: a block cosine transform
- `derived`: values computed from weights, and the weights' fingerprint
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
