"""Clips to measure with: voices and sentences no encoder or denoiser has met, and languages neither has met."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from scipy.signal import resample_poly

from dmt.corpus import Corpus
from dmt.corpus.clip import CLIP_FRAMES, LEAD, STYLE_CLIP_FRAMES, VALIDATION_VOICES
from dmt.corpus.espeak import fresh_synthesiser
from dmt.corpus.expression import coefficients, emotions, make_style
from dmt.corpus.targets import Segment, lip_curves, segments
from dmt.rates import FRAME_RATE, SAMPLE_RATE, SAMPLES_PER_FRAME

WORDS = {
    "cs": """dobrý den matka otec bratr přítel lékař pes kočka kůň pták okno láhev papír stůl obraz řeka hora
        zahrada most vesnice léto zima ráno večer hudba odpověď otázka číslo krásný šťastný žlutý těžký malý
        velký možná vždy nikdy často velmi spolu koupil myslel našel slyší dělá bere skáče věří zavírá
        buduje chce měl je dům oheň voda""",
    "hu": """jó napot anya apa testvér barát orvos kutya macska ló madár ablak üveg papír asztal kép folyó hegy
        kert híd falu nyár tél reggel este zene válasz kérdés szám szép boldog sárga nehéz kicsi nagy talán
        mindig soha gyakran nagyon együtt vett gondolt talált hall csinál vesz ugrik hisz zár épít akar volt
        ház tűz víz könyv""",
    "fi": """hyvää päivää äiti isä veli ystävä lääkäri koira kissa hevonen lintu ikkuna pullo paperi pöytä kuva
        joki vuori puutarha silta kylä kesä talvi aamu ilta musiikki vastaus kysymys numero kaunis iloinen
        keltainen raskas pieni suuri ehkä aina usein hyvin yhdessä osti ajatteli löysi kuulee tekee ottaa
        hyppää uskoo sulkee talo vesi""",
    "el": """καλημέρα μητέρα πατέρας αδελφός φίλος γιατρός σκύλος γάτα άλογο πουλί παράθυρο μπουκάλι χαρτί
        τραπέζι εικόνα ποτάμι βουνό κήπος γέφυρα χωριό καλοκαίρι χειμώνας πρωί βράδυ μουσική απάντηση
        ερώτηση αριθμός όμορφος κίτρινο βαρύ μικρό μεγάλο ίσως πάντα ποτέ συχνά πολύ μαζί βρήκε ακούει κάνει
        παίρνει πιστεύει σπίτι φωτιά νερό""",
    "ro": """bună ziua mama tata frate prieten medic câine pisică cal pasăre fereastră sticlă hârtie masă tablou
        râu munte grădină pod sat vară iarnă dimineață seară muzică răspuns întrebare număr frumos fericit
        galben greu mic mare poate mereu niciodată foarte împreună a cumpărat a găsit aude face ia sare
        crede închide vrea casă foc apă""",
    "id": """selamat pagi ibu ayah kakak teman dokter anjing kucing kuda burung jendela botol kertas meja gambar
        sungai gunung kebun jembatan desa musim malam musik jawaban pertanyaan angka indah bahagia kuning
        berat kecil besar mungkin selalu jarang sangat bersama membeli berpikir menemukan mendengar membuat
        melompat percaya rumah api""",
}
"""Languages that the training corpus does not speak, by espeak-ng's names; words of our own choice."""

END = CLIP_FRAMES / FRAME_RATE
"""Seconds."""

CLIPS_PER_LANGUAGE = 4
SEED = 31_000


def unseen_languages() -> Corpus:
    """Well recorded clips of 8 s in the languages of WORDS and in held-out voices; always the same."""
    clips = [
        _clip(language, np.random.default_rng([SEED, index, number]), index)
        for index, language in enumerate(WORDS)
        for number in range(CLIPS_PER_LANGUAGE)
    ]
    closures = [np.column_stack([np.full(len(c["closures"]), i), c["closures"]]) for i, c in enumerate(clips)]
    arrays = {name: np.stack([c[name] for c in clips]) for name in clips[0] if name != "closures"}
    return Corpus(**arrays, closures=np.concatenate(closures).astype(np.int32))


def _clip(language: str, rng: np.random.Generator, index: int) -> dict[str, np.ndarray]:
    emotion = int(rng.integers(len(emotions())))
    style = make_style(emotion, rng)
    wave, parts = _speak(language, rng)
    lips = lip_curves(parts, CLIP_FRAMES, vigour=style.vigour, lead=LEAD)
    # The style clip is another time of the same face, saying something else.
    other = lip_curves(_speak(language, rng)[1], STYLE_CLIP_FRAMES, vigour=style.vigour)
    return {
        "wave": (wave * (0.7 * 32767 / np.abs(wave).max())).astype(np.int16),
        "coefficients": coefficients(lips, style, rng).astype(np.float16),
        "style": coefficients(other, style, rng).astype(np.float16),
        "lips": np.stack([lips.opening, lips.width], 1).astype(np.float16),
        "sounds": lips.sounds,
        "closures": np.array(lips.closures, np.int32).reshape(-1, 2),
        "emotion": np.array(emotion),
        "language": np.array(index),
    }


def _speak(language: str, rng: np.random.Generator) -> tuple[np.ndarray, list[Segment]]:
    """Sentences until the clip is full: [S] at 16 kHz and their segments."""
    espeak = fresh_synthesiser(int(rng.integers(2**31)))
    voice = f"{language}+{rng.choice(VALIDATION_VOICES)}"
    settings = {"rate": int(rng.integers(120, 210)), "pitch": int(rng.integers(20, 80))}
    samples, words = CLIP_FRAMES * SAMPLES_PER_FRAME, WORDS[language].split()
    wave, parts, at = np.zeros(samples), [], float(rng.uniform(0.2, 0.8))
    while at < END - 0.5:
        spoken = espeak.say(" ".join(rng.choice(words, int(rng.integers(4, 9)))) + ".", voice, **settings)
        sound = _at_16_khz(spoken.wave, spoken.rate)[: samples - int(at * SAMPLE_RATE)]
        wave[int(at * SAMPLE_RATE) :][: len(sound)] += sound
        timed = segments(spoken)
        end = CLIP_FRAMES / FRAME_RATE
        parts += [
            Segment(p.letter, p.start + at, min(p.end + at, end), p.strength) for p in timed if p.start + at < end
        ]
        at += len(sound) / SAMPLE_RATE + float(rng.uniform(0.1, 0.6))
    return wave, parts


def _at_16_khz(wave: np.ndarray, rate: int) -> np.ndarray:
    ratio = Fraction(SAMPLE_RATE, rate)
    return resample_poly(wave.astype(np.float64), ratio.numerator, ratio.denominator)
