//! Complex numbers over any interval arithmetic. Most values are real, which is remembered.
use super::Real;
use crate::fuel::Stop;
use crate::number::Rational;

/// `re + i im`; `im` is absent when it is exactly zero.
#[derive(Clone, Debug)]
pub(crate) struct Complex<R> {
    pub(crate) re: R,
    pub(crate) im: Option<R>,
}

impl<R: Real> Complex<R> {
    pub(crate) fn real(re: R) -> Self {
        Self { re, im: None }
    }

    pub(crate) fn from_rational(value: &Rational, p: &R::Precision) -> Self {
        Self::real(R::from_rational(value, p))
    }

    pub(crate) fn i(p: &R::Precision) -> Self {
        Self {
            re: R::from_rational(&Rational::ZERO, p),
            im: Some(R::from_rational(&Rational::ONE, p)),
        }
    }

    /// The real part of a number that is real for certain.
    pub(crate) fn as_real(&self) -> Result<&R, Stop> {
        match &self.im {
            None => Ok(&self.re),
            Some(im) if im.sign() == Some(0) => Ok(&self.re),
            Some(_) => Err(Stop::Unsupported),
        }
    }

    pub(crate) fn add(&self, other: &Self, p: &R::Precision) -> Self {
        let im = match (&self.im, &other.im) {
            (Some(a), Some(b)) => Some(a.add(b, p)),
            (a, b) => a.clone().or_else(|| b.clone()),
        };
        Self {
            re: self.re.add(&other.re, p),
            im,
        }
    }

    pub(crate) fn neg(&self) -> Self {
        Self {
            re: self.re.neg(),
            im: self.im.as_ref().map(R::neg),
        }
    }

    pub(crate) fn mul(&self, other: &Self, p: &R::Precision) -> Self {
        match (&self.im, &other.im) {
            (None, None) => Self::real(self.re.mul(&other.re, p)),
            (Some(im), None) => Self {
                re: self.re.mul(&other.re, p),
                im: Some(im.mul(&other.re, p)),
            },
            (None, Some(im)) => Self {
                re: self.re.mul(&other.re, p),
                im: Some(self.re.mul(im, p)),
            },
            (Some(b), Some(d)) => Self {
                re: self.re.mul(&other.re, p).sub(&b.mul(d, p), p),
                im: Some(self.re.mul(d, p).add(&b.mul(&other.re, p), p)),
            },
        }
    }

    fn scaled(&self, factor: &R, p: &R::Precision) -> Self {
        Self {
            re: self.re.mul(factor, p),
            im: self.im.as_ref().map(|im| im.mul(factor, p)),
        }
    }

    pub(crate) fn inverse(&self, p: &R::Precision) -> Result<Self, Stop> {
        let one = R::from_rational(&Rational::ONE, p);
        match &self.im {
            None => Ok(Self::real(one.div(&self.re, p)?)),
            Some(im) => {
                let norm = self.re.mul(&self.re, p).add(&im.mul(im, p), p);
                Ok(Self {
                    re: self.re.div(&norm, p)?,
                    im: Some(im.neg().div(&norm, p)?),
                })
            }
        }
    }

    pub(crate) fn div(&self, other: &Self, p: &R::Precision) -> Result<Self, Stop> {
        match &other.im {
            None => Ok(Self {
                re: self.re.div(&other.re, p)?,
                im: self
                    .im
                    .as_ref()
                    .map(|im| im.div(&other.re, p))
                    .transpose()?,
            }),
            Some(_) => Ok(self.mul(&other.inverse(p)?, p)),
        }
    }

    pub(crate) fn abs(&self, p: &R::Precision) -> Result<R, Stop> {
        match &self.im {
            None => match self.re.sign() {
                Some(-1) => Ok(self.re.neg()),
                Some(_) => Ok(self.re.clone()),
                None => Err(Stop::Unsupported),
            },
            Some(im) => self.re.mul(&self.re, p).add(&im.mul(im, p), p).sqrt(p),
        }
    }

    /// The angle in (-pi, pi].
    fn argument(&self, p: &R::Precision) -> Result<R, Stop> {
        let zero = || R::from_rational(&Rational::ZERO, p);
        let re_sign = self.re.sign();
        let im = match &self.im {
            Some(im) if im.sign() != Some(0) => im,
            _ => {
                return match re_sign {
                    Some(1) => Ok(zero()),
                    Some(-1) => Ok(R::pi(p)),
                    _ => Err(Stop::Unsupported),
                };
            }
        };
        let half = R::from_rational(&Rational::HALF, p);
        match (re_sign, im.sign()) {
            (Some(1), _) => im.div(&self.re, p)?.atan(p),
            (_, Some(sign)) => {
                // atan2 = sign(im) pi/2 - atan(re / im).
                let quarter = R::pi(p).mul(&half, p);
                let quarter = if sign > 0 { quarter } else { quarter.neg() };
                Ok(quarter.sub(&self.re.div(im, p)?.atan(p)?, p))
            }
            _ => Err(Stop::Unsupported),
        }
    }

    pub(crate) fn exp(&self, p: &R::Precision) -> Result<Self, Stop> {
        let modulus = self.re.exp(p)?;
        match &self.im {
            None => Ok(Self::real(modulus)),
            Some(im) => Ok(Self {
                re: modulus.mul(&im.cos(p)?, p),
                im: Some(modulus.mul(&im.sin(p)?, p)),
            }),
        }
    }

    pub(crate) fn ln(&self, p: &R::Precision) -> Result<Self, Stop> {
        if self.im.is_none() && self.re.sign() == Some(1) {
            return Ok(Self::real(self.re.ln(p)?));
        }
        let re = self.abs(p)?.ln(p)?;
        Ok(Self {
            re,
            im: Some(self.argument(p)?),
        })
    }

    /// The principal square root.
    pub(crate) fn sqrt(&self, p: &R::Precision) -> Result<Self, Stop> {
        match (&self.im, self.re.sign()) {
            (None, Some(0 | 1)) => Ok(Self::real(self.re.sqrt(p)?)),
            (None, Some(_)) => Ok(Self {
                re: R::from_rational(&Rational::ZERO, p),
                im: Some(self.re.neg().sqrt(p)?),
            }),
            _ => {
                let half = R::from_rational(&Rational::HALF, p);
                self.ln(p)?.scaled(&half, p).exp(p)
            }
        }
    }

    /// A whole power by repeated squaring.
    pub(crate) fn powi(&self, exponent: u32, p: &R::Precision) -> Self {
        let mut result = Self::from_rational(&Rational::ONE, p);
        let mut base = self.clone();
        let mut rest = exponent;
        while rest > 0 {
            if rest & 1 == 1 {
                result = result.mul(&base, p);
            }
            rest >>= 1;
            if rest > 0 {
                base = base.mul(&base, p);
            }
        }
        result
    }

    /// The principal power `e^{u ln z}`.
    pub(crate) fn pow(&self, exponent: &Self, p: &R::Precision) -> Result<Self, Stop> {
        self.ln(p)?.mul(exponent, p).exp(p)
    }

    fn half_difference(&self, other: &Self, p: &R::Precision) -> Self {
        self.add(&other.neg(), p)
            .scaled(&R::from_rational(&Rational::HALF, p), p)
    }

    fn half_sum(&self, other: &Self, p: &R::Precision) -> Self {
        self.add(other, p)
            .scaled(&R::from_rational(&Rational::HALF, p), p)
    }

    pub(crate) fn sinh(&self, p: &R::Precision) -> Result<Self, Stop> {
        Ok(self.exp(p)?.half_difference(&self.neg().exp(p)?, p))
    }

    pub(crate) fn cosh(&self, p: &R::Precision) -> Result<Self, Stop> {
        Ok(self.exp(p)?.half_sum(&self.neg().exp(p)?, p))
    }

    pub(crate) fn sin(&self, p: &R::Precision) -> Result<Self, Stop> {
        match &self.im {
            None => Ok(Self::real(self.re.sin(p)?)),
            // sin z = -i sinh(iz)
            Some(_) => Ok(self.mul(&Self::i(p), p).sinh(p)?.mul(&Self::i(p).neg(), p)),
        }
    }

    pub(crate) fn cos(&self, p: &R::Precision) -> Result<Self, Stop> {
        match &self.im {
            None => Ok(Self::real(self.re.cos(p)?)),
            Some(_) => self.mul(&Self::i(p), p).cosh(p),
        }
    }

    /// Arctangent of a real number.
    pub(crate) fn atan(&self, p: &R::Precision) -> Result<Self, Stop> {
        Ok(Self::real(self.as_real()?.atan(p)?))
    }

    /// Arcsine of a real number in [-1, 1]: `atan(x / sqrt(1 - x^2))`.
    pub(crate) fn asin(&self, p: &R::Precision) -> Result<Self, Stop> {
        let x = self.as_real()?;
        let one = R::from_rational(&Rational::ONE, p);
        let cosine_squared = one.sub(&x.mul(x, p), p);
        if cosine_squared.sign() != Some(1) {
            return Err(Stop::Unsupported);
        }
        Ok(Self::real(x.div(&cosine_squared.sqrt(p)?, p)?.atan(p)?))
    }
}
