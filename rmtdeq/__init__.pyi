"""The public names and the modules that they come from, for type checkers and for importing them when first used."""

from ._lib.errors import (
    ClusterError as ClusterError,
    ConvergenceError as ConvergenceError,
    DataNotFoundError as DataNotFoundError,
    IllPosedError as IllPosedError,
    InvalidInputError as InvalidInputError,
    LongComputationError as LongComputationError,
    MemoryLimitError as MemoryLimitError,
    MissingDependencyError as MissingDependencyError,
    RmtdeqError as RmtdeqError,
)
from ._version import (
    __version__ as __version__,
)
from .curves import (
    ClassificationRun as ClassificationRun,
    LossCurve as LossCurve,
    TrainingRun as TrainingRun,
    learning_rate as learning_rate,
    predict_training as predict_training,
)
from .data import (
    DataMoments as DataMoments,
    DataTable as DataTable,
    GaussianMixture as GaussianMixture,
    center_and_scale as center_and_scale,
    class_names as class_names,
    dataset_names as dataset_names,
    load_classification as load_classification,
    load_dataset as load_dataset,
    load_table as load_table,
    on_sphere as on_sphere,
    standardize as standardize,
)
from .network import (
    Concatenation as Concatenation,
    DEQ as DEQ,
    Dropout as Dropout,
    Layer as Layer,
    LayerNorm as LayerNorm,
    Network as Network,
    RMSNorm as RMSNorm,
    Residual as Residual,
    Step as Step,
)
from .designs import (
    DesignStatus as DesignStatus,
    ExplicitNetwork as ExplicitNetwork,
    KernelComparison as KernelComparison,
    compare_kernels as compare_kernels,
    design as design,
)
from .theory import (
    Coefficients as Coefficients,
    DualActivation as DualActivation,
    ExpectedError as ExpectedError,
    GramPrediction as GramPrediction,
    ScalarKernel as ScalarKernel,
    SpectrumPrediction as SpectrumPrediction,
    dual_activation as dual_activation,
    equivalent as equivalent,
    equivalent_operator as equivalent_operator,
    predict_spectrum as predict_spectrum,
    scalar_kernel as scalar_kernel,
    solve as solve,
)
from .learning import (
    EnsemblePrediction as EnsemblePrediction,
    LearningCurve as LearningCurve,
    LearningPrediction as LearningPrediction,
    Suggestion as Suggestion,
    learning_curve as learning_curve,
    predict_ensemble as predict_ensemble,
    predict_learning as predict_learning,
    suggest as suggest,
)
from .sklearn import (
    DEQClassifier as DEQClassifier,
    DEQKernel as DEQKernel,
    DEQRegressor as DEQRegressor,
    load_estimator as load_estimator,
    save_estimator as save_estimator,
)
from .activations import (
    Activation as Activation,
    activation as activation,
    activation_names as activation_names,
)
from .kernels import (
    finite_width_kernel as finite_width_kernel,
    kernel as kernel,
    kernel_operator as kernel_operator,
    sample_features as sample_features,
)
from .output.figures import (
    comparison_figure as comparison_figure,
)
from .output.numbers import (
    save_comparisons as save_comparisons,
)
from .output.report import (
    Section as Section,
    write_report as write_report,
)
from .spectra import (
    EmpiricalSpectrum as EmpiricalSpectrum,
    RankErrors as RankErrors,
    SpectrumComparison as SpectrumComparison,
    compare as compare,
    empirical_spectrum as empirical_spectrum,
)
from .stability import (
    ForetoldDiagnosis as ForetoldDiagnosis,
    MeasuredDiagnosis as MeasuredDiagnosis,
    diagnose as diagnose,
)
from .training import (
    InitialCondition as InitialCondition,
    check_initial_condition as check_initial_condition,
    gradient_descent as gradient_descent,
    gradient_flow as gradient_flow,
    train_classifier as train_classifier,
)
