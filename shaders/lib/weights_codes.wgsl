// Weights stay packed until their codes are multiplied as signed bytes; scales and offsets come in
// after the sums.

alias W = Raw;

fn w_init(lane: u32) {}

fn w_load(p: Place, chunk: u32) -> W {
    return raw32(p, chunk);
}

// The codes of 16 weights.
fn w_bytes(w: W, half: u32) -> vec4<u32> {
    let i = 4u * half;
    return vec4<u32>(
        code_bytes(raw_quad(w, i)), code_bytes(raw_quad(w, i + 1u)), code_bytes(raw_quad(w, i + 2u)), code_bytes(raw_quad(w, i + 3u)));
}
