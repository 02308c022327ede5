// The codebook of the format, or words of the tensor's own.

@group(0) @binding(5) var<storage, read> book: array<u32>;

fn book_word(i: u32) -> u32 {
    return book[i];
}
