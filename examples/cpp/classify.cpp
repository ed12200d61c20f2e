// classify OPERATORS MODEL.pt2 IMAGE: the logits of an image, one a line.
//
// OPERATORS is the package's libmnv2_ops.so, which needs no Python; MODEL.pt2 is what `mnv2 export --format aoti` wrote; IMAGE
// is a PPM (P6) of bytes, or else raw float32 numbers (3, H, W) of a square image, normalised as the model wants them.
#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>
#include <dlfcn.h>
#include <torch/csrc/inductor/aoti_package/model_package_loader.h>

#include <cmath>
#include <cstdio>
#include <exception>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

constexpr int64_t channels = 3;

std::vector<char> read_file(const std::string& path)
{
    std::ifstream file(path, std::ios::binary);
    if (!file) throw std::runtime_error("cannot read " + path);
    return {std::istreambuf_iterator<char>(file), {}};
}

// Bytes (1, 3, H, W), in the file's order of memory: nothing is copied twice.
at::Tensor read_ppm(const std::string& path)
{
    std::ifstream file(path, std::ios::binary);
    std::string magic;
    int64_t width = 0, height = 0, largest = 0;
    file >> magic >> width >> height >> largest;
    file.get();  // the one white space in front of the pixels
    if (!file || magic != "P6" || largest != 255 || width < 1 || height < 1)
        throw std::runtime_error(path + ": expected a P6 file of 255 levels without comments");
    at::Tensor pixels = at::empty({1, height, width, channels}, at::kByte);
    file.read(static_cast<char*>(pixels.data_ptr()), pixels.numel());
    if (!file) throw std::runtime_error(path + ": the file ends early");
    return pixels.permute({0, 3, 1, 2});
}

at::Tensor read_floats(const std::string& path)
{
    std::vector<char> bytes = read_file(path);
    const auto count = static_cast<int64_t>(bytes.size() / sizeof(float));
    const auto size = std::llround(std::sqrt(static_cast<double>(count) / channels));
    if (size < 1 || static_cast<size_t>(channels * size * size) * sizeof(float) != bytes.size())
        throw std::runtime_error(path + ": expected float32 numbers (3, H, W) of a square image");
    return at::from_blob(bytes.data(), {1, channels, size, size}, at::kFloat).clone();
}

at::Tensor read_image(const std::string& path)
{
    return path.ends_with(".ppm") ? read_ppm(path) : read_floats(path);
}

void classify(const std::string& operators, const std::string& model, const std::string& image)
{
    if (!dlopen(operators.c_str(), RTLD_NOW | RTLD_GLOBAL)) throw std::runtime_error(dlerror());
    const c10::InferenceMode without_gradients;
    torch::inductor::AOTIModelPackageLoader loader(model);
    const at::Tensor logits = loader.run({read_image(image)}).at(0).to(at::kFloat).contiguous();
    for (int64_t index = 0; index < logits.numel(); ++index)
        std::printf("%.9g\n", static_cast<double>(logits.data_ptr<float>()[index]));  // nine digits tell all float32 apart
}

}  // namespace

int main(int count, char** arguments)
{
    if (count != 4) {
        std::fprintf(stderr, "usage: classify libmnv2_ops.so MODEL.pt2 IMAGE\n");
        return 2;
    }
    try {
        classify(arguments[1], arguments[2], arguments[3]);
    } catch (const std::exception& error) {
        const std::string text = error.what();  // torch's have a backtrace behind the first line
        std::fprintf(stderr, "classify: %s\n", text.substr(0, text.find('\n')).c_str());
        return 1;
    }
}
