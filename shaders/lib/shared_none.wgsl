// Decoders that load nothing for several chunks at once: one stretch is all there is.

const SUPERBLOCK_CHUNKS = 0x7fffffffu;

fn shared_words(row: u32, k: u32) -> Shared {
    return Shared();
}
