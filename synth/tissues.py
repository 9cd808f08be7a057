"""What a tissue is to a scanner: relaxation, proton density, contrast uptake, Hounsfield units.

Each row names where its relaxation times come from; what no source gave is marked as assumed.

Sources
-------
bojorquez
    Bojorquez et al., Magn. Reson. Imaging 35, 69 (2017): review of relaxation times at 3 T.
bazelaire
    de Bazelaire et al., Radiology 230, 652 (2004): subcutaneous fat, bone marrow, 1.5 and 3 T.
noeth
    Nöth et al., NMR Biomed. 33, e4242 (2020): contrast agent shortens T1 of enhancing
    glioblastoma by 838 ± 210 ms and of oedema by 123 ± 74 ms, at 3 T.
patz
    Patz et al., J. Magn. Reson. Imaging 26, 510 (2007): fluid of the eye at 1.5 T.
reichert
    Reichert et al., Magn. Reson. Imaging 23, 611 (2005): cortical bone with ultrashort echoes.
rooney
    Rooney et al., Magn. Reson. Med. 57, 308 (2007): T1 of CSF 4.3 s at every field.
schneider
    Schneider, Bortfeld & Schlegel, Phys. Med. Biol. 45, 459 (2000): HU of tissues from their
    composition.
stanisz
    Stanisz et al., Magn. Reson. Med. 54, 507 (2005): grey, white, muscle at 1.5 and 3 T.
buzug
    Buzug, Computed Tomography (2008), p. 475: HU of white 20–30, of grey 37–45, of fat −50 to
    −100, of bone 700–3000.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from imaging.tissue import Tissue

FIELDS = (1.5, 3.0)  # tesla, in the order of the pairs below


@dataclass(frozen=True)
class Properties:
    """A tissue's numbers.

    Parameters
    ----------
    t1, t2
        Relaxation times at 1.5 T and 3 T (ms).
    pd
        Proton density seen by MRI, relative to CSF.
    uptake
        Concentration of a gadolinium agent some minutes after a single dose (mmol/l of tissue).
    hu
        Mean CT number (HU).
    source
        Where T1 and T2 come from.
    """

    t1: tuple[float, float]
    t2: tuple[float, float]
    pd: float
    uptake: float
    hu: float
    source: str


PROPERTIES: dict[Tissue, Properties] = {
    Tissue.OUTSIDE: Properties((1000, 1000), (100, 100), 0.0, 0.0, -1000, "no protons"),
    Tissue.AIR: Properties((1000, 1000), (100, 100), 0.0, 0.0, -1000, "no protons"),
    # Skin, muscle and connective tissue together; HU of muscle.
    Tissue.SCALP: Properties((1008, 1412), (44, 50), 0.75, 0.04, 45, "stanisz: skeletal muscle"),
    # Less signal than pure fat: septa, and shift between fat and water.
    Tissue.FAT: Properties((343, 382), (58, 68), 0.7, 0.0, -95, "bazelaire: subcutaneous fat"),
    # T2 is far below any echo time of a clinical sequence.
    Tissue.SKULL: Properties((200, 260), (0.5, 0.5), 0.2, 0.0, 1150, "reichert"),
    Tissue.MARROW: Properties((549, 586), (49, 49), 0.55, 0.01, 420, "bazelaire: marrow; pd assumed"),
    Tissue.CSF: Properties((4300, 4300), (2000, 2000), 1.0, 0.0, 6, "rooney; T2 assumed"),
    Tissue.EYE: Properties((4300, 4300), (450, 450), 1.0, 0.0, 10, "patz: T2; T1 assumed as CSF"),
    Tissue.GREY: Properties((1124, 1820), (95, 99), 0.83, 0.008, 39, "stanisz"),
    Tissue.WHITE: Properties((884, 1084), (72, 69), 0.70, 0.005, 28, "stanisz"),
    Tissue.BRAINSTEM: Properties((940, 1220), (76, 74), 0.73, 0.005, 32, "assumed, between stanisz"),
    Tissue.NECROSIS: Properties((1900, 2600), (210, 190), 0.95, 0.01, 18, "assumed, between tumour and CSF"),
    Tissue.OEDEMA: Properties((1250, 1500), (130, 125), 0.82, 0.012, 20, "assumed; uptake noeth"),
    Tissue.ENHANCING: Properties((1300, 1700), (115, 110), 0.85, 0.13, 36, "assumed; uptake noeth"),
}


def column(name: str, field: float = 3.0) -> Tensor:
    """One property of every tissue, indexed by label, shape ``(n,)`` float32.

    Parameters
    ----------
    name
        A field of `Properties`: ``t1``, ``t2``, ``pd``, ``uptake`` or ``hu``.
    field
        Field strength (T), 1.5 or 3.

    Raises
    ------
    ValueError
        If there are no values at this field strength.
    """
    if field not in FIELDS:
        raise ValueError(f"expected a field of 1.5 or 3 T, got {field}")
    out = torch.zeros(max(Tissue) + 1)
    for tissue, properties in PROPERTIES.items():
        value = getattr(properties, name)
        out[tissue] = value[FIELDS.index(field)] if isinstance(value, tuple) else value
    return out
