//! Numbers, words and bytes from texts: each rule says what fits into a type.

/// Beyond, not all whole numbers are numbers of 64 bits with a point.
const EXACT_MAX: f64 = (1_i64 << 53) as f64;
/// The powers of ten that a number of 64 bits with a point is exactly.
const POWERS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18,
    1e19, 1e20, 1e21, 1e22,
];
/// With so many digits, a number has less than 53 bits.
const EXACT_DIGITS_MAX: usize = 15;

pub(crate) fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" => Some(true),
        "0" => Some(false),
        _ if text.eq_ignore_ascii_case("true") => Some(true),
        _ if text.eq_ignore_ascii_case("false") => Some(false),
        // What is 1 or 0, written in another way.
        _ => match double(text)? {
            1.0 => Some(true),
            0.0 => Some(false),
            _ => None,
        },
    }
}

/// `12.0` and `1.2e1` are whole.
pub(crate) fn whole(text: &str) -> Option<i64> {
    match text.parse() {
        Ok(number) => Some(number),
        Err(_) => whole_of_double(text),
    }
}

#[cold]
fn whole_of_double(text: &str) -> Option<i64> {
    let number: f64 = text.parse().ok()?;
    (number.fract() == 0.0 && number.abs() <= EXACT_MAX).then_some(number as i64)
}

/// The nearest number. One that is too large does not fit.
#[inline]
pub(crate) fn double(text: &str) -> Option<f64> {
    short_double(text.as_bytes()).or_else(|| {
        let number: f64 = text.parse().ok()?;
        (number.is_finite() || is_word(text)).then_some(number)
    })
}

pub(crate) fn real(text: &str) -> Option<f32> {
    let number: f32 = text.parse().ok()?;
    (number.is_finite() || is_word(text)).then_some(number)
}

/// Returns whether a number is written as a word, such as `NaN`.
fn is_word(text: &str) -> bool {
    !text.bytes().any(|byte| byte.is_ascii_digit())
}

/// A number of few digits without an exponent: the whole number of all its digits and the power of ten are exact, so their quotient is the
/// nearest number.
#[inline]
fn short_double(text: &[u8]) -> Option<f64> {
    let (is_negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    // A point is among them.
    if digits.len() > EXACT_DIGITS_MAX + 1 {
        return None;
    }
    let (mut number, mut count, mut point) = (0_u64, 0, None);
    for &byte in digits {
        match byte {
            b'0'..=b'9' => {
                number = number * 10 + u64::from(byte - b'0');
                count += 1;
            }
            b'.' if point.is_none() && count > 0 => point = Some(count),
            _ => return None,
        }
    }
    if count == 0 || count > EXACT_DIGITS_MAX || point == Some(count) {
        return None;
    }
    let number = number as f64 / POWERS[point.map_or(0, |point| count - point)];
    Some(if is_negative { -number } else { number })
}

/// Returns an exact number in units of its last digit. One with more digits behind the point than `scale` does not fit.
pub(crate) fn decimal(text: &str, precision: u8, scale: u8) -> Option<i128> {
    let (digits, exponent) = match text.split_once(['e', 'E']) {
        Some((digits, exponent)) => (digits, exponent.parse::<i32>().ok()?),
        None => (text, 0),
    };
    let is_negative = digits.starts_with('-');
    let digits = digits.strip_prefix(['-', '+']).unwrap_or(digits);
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let fraction_digits = fraction.trim_end_matches('0');
    let mut number = 0_i128;
    for byte in whole.bytes().chain(fraction_digits.bytes()) {
        let digit = byte.is_ascii_digit().then(|| i128::from(byte - b'0'))?;
        number = number.checked_mul(10)?.checked_add(digit)?;
    }
    if number == 0 {
        return Some(0);
    }
    let fraction_digits = i32::try_from(fraction_digits.len()).ok()?;
    let shift = i32::from(scale).checked_add(exponent)?.checked_sub(fraction_digits)?;
    let unit = 10_i128.checked_pow(shift.unsigned_abs())?;
    let number = match shift >= 0 {
        true => number.checked_mul(unit)?,
        false if number % unit != 0 => return None,
        false => number / unit,
    };
    (number < 10_i128.pow(precision.into())).then_some(if is_negative { -number } else { number })
}

/// Returns the bytes of a text in Base64, with or without padding.
pub(crate) fn base64(text: &str) -> Option<Vec<u8>> {
    let digits = text.trim_end_matches('=').as_bytes();
    let padding = text.len() - digits.len();
    if padding > 2 || padding > 0 && !text.len().is_multiple_of(4) || digits.len() % 4 == 1 {
        return None;
    }
    let mut bytes = Vec::with_capacity(digits.len() * 3 / 4);
    let (mut bits, mut bit_count) = (0_u32, 0);
    for &digit in digits {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        bit_count += 6;
        if bit_count >= 8 {
            bit_count -= 8;
            bytes.push((bits >> bit_count) as u8);
        }
    }
    // What is left belongs to no byte.
    (bits & ((1 << bit_count) - 1) == 0).then_some(bytes)
}
