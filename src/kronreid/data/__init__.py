"""Pictures with identities: readers, decoding, transforms, samplers and generated pedestrians."""
