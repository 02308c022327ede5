// Codes that are numbers themselves to halves: d * q + m of two quads, rounded once to f32 and then
// to f16. Bytes are converted without signs, for which AMD has an instruction; those with signs are
// moved up by 128 first, and 128 d is exact.

fn quad_halves(q: u32, d: f32, m: f32) -> vec4<f16> {
    if (CODES_SIGNED) {
        return vec4<f16>(fma(quad(q ^ 0x80808080u), vec4<f32>(d), vec4<f32>(-128.0 * d)));
    }
    return vec4<f16>(fma(quad(q), vec4<f32>(d), vec4<f32>(m)));
}

fn pair_halves(a: u32, b: u32, d: f32, m: f32) -> array<vec4<f16>, 2> {
    return array<vec4<f16>, 2>(quad_halves(a, d, m), quad_halves(b, d, m));
}
