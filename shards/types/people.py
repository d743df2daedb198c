"""Users: the people whose names stand on records, as the sources know them."""

from shards.types.definition import Link, Moment, Number, ShardType, StructuredData
from shards.types.text import Fact, LongText, Place, TextTemplate


class UserData(StructuredData):
    """A person with an account at a source."""

    first_name: str | None = None
    middle_name: str | None = None
    last_name: str | None = None
    suffix: str | None = None
    email: str | None = None
    username: str | None = None
    alias: str | None = None
    nickname: str | None = None
    title: str | None = None
    department: str | None = None
    division: str | None = None
    company_name: str | None = None
    employee_number: str | None = None
    manager_id: str | None = None
    manager_name: str | None = None
    is_active: bool | None = None
    user_type: str | None = None
    profile_id: str | None = None
    profile_name: str | None = None
    user_role_id: str | None = None
    user_role_name: str | None = None
    phone: str | None = None
    mobile_phone: str | None = None
    extension: str | None = None
    fax: str | None = None
    street: str | None = None
    city: str | None = None
    state: str | None = None
    state_code: str | None = None
    postal_code: str | None = None
    country: str | None = None
    country_code: str | None = None
    latitude: Number | None = None
    longitude: Number | None = None
    geocode_accuracy: str | None = None
    time_zone: str | None = None
    locale: str | None = None
    language: str | None = None
    about_me: str | None = None
    photo_url: str | None = None
    account_id: str | None = None
    contact_id: str | None = None
    federation_identifier: str | None = None
    currency: str | None = None
    created_date: Moment | None = None
    created_by: str | None = None


USER = ShardType(
    id="c_user",
    noun="user",
    data=UserData,
    chunking="own",
    links=(Link("managerId", "child_of", "c_user", {"salesforce": "User"}, {"salesforce": "ManagerId"}),),
    text=TextTemplate(
        facts=(
            Fact("title", "Title"),
            Fact("department", "Department"),
            Fact("division", "Division"),
            Fact("companyName", "Company"),
            Fact("userRoleName", "Role"),
            Fact("email", "Email"),
            Fact("managerName", "Manager"),
            Fact(None, "Place", Place("")),
        ),
        texts=(LongText("aboutMe", "About"),),
    ),
)
