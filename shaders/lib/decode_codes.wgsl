// What kernels take of a decoder that gives codes: all 32 at once, as codes or as weights.

fn quads_of(r: Raw) -> array<u32, 8> {
    return array<u32, 8>(
        raw_quad(r, 0u), raw_quad(r, 1u), raw_quad(r, 2u), raw_quad(r, 3u),
        raw_quad(r, 4u), raw_quad(r, 5u), raw_quad(r, 6u), raw_quad(r, 7u));
}

fn quads(row: u32, k: u32) -> array<u32, 8> {
    return quads_of(raw32(place(row), k >> 5u));
}

fn codes32(row: u32, k: u32) -> Codes {
    let chunk = k >> 5u;
    let r = raw32(place(row), chunk);
    let a = raw_scale(r, chunk, 0u);
    let b = raw_scale(r, chunk, 1u);
    return Codes(quads_of(r), vec2<f32>(a.x, b.x), vec2<f32>(a.y, b.y));
}

fn weights_of(r: Raw, chunk: u32) -> array<vec4<f32>, 8> {
    let a = raw_scale(r, chunk, 0u);
    let b = raw_scale(r, chunk, 1u);
    return array<vec4<f32>, 8>(
        decoded_quad(raw_quad(r, 0u), a), decoded_quad(raw_quad(r, 1u), a),
        decoded_quad(raw_quad(r, 2u), a), decoded_quad(raw_quad(r, 3u), a),
        decoded_quad(raw_quad(r, 4u), b), decoded_quad(raw_quad(r, 5u), b),
        decoded_quad(raw_quad(r, 6u), b), decoded_quad(raw_quad(r, 7u), b));
}
