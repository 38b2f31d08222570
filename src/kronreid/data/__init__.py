"""Pictures with identities: readers, opening, transforms, samplers and generated pedestrians."""
