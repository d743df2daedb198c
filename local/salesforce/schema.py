"""Objects and fields: the standard ones by their API names, and tables that carry records of them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from local.salesforce import ids

Value = str | bool | int | Decimal | None
"""A field's value as it goes over the wire; dates and date-times are texts."""

Record = dict[str, Value]
"""One record, every field of its object by API name. A stored record is never changed, only replaced."""

TEXT_TYPES = frozenset({"string", "textarea", "picklist", "multipicklist", "phone", "url", "email"})
NUMBER_TYPES = frozenset({"int", "double", "currency", "percent"})
ADDRESS_PARTS = ("Street", "City", "State", "PostalCode", "Country", "Latitude", "Longitude", "GeocodeAccuracy")


@dataclass(frozen=True, slots=True)
class Field:
    """A field of an object. *type* is the describe's word for it.

    *filterable* is false for long texts and compound fields, which SOQL refuses in WHERE and ORDER BY.
    *address_prefix* is set for a compound address alone: ``Billing`` for BillingAddress, empty for User's Address.
    *calculated*: a formula or a roll-up, whose value changes without the record's being saved.
    """

    name: str
    type: str
    refers_to: str | None = None
    filterable: bool = True
    address_prefix: str | None = None
    calculated: bool = False

    @property
    def custom(self) -> bool:
        """Whether the org's own people made the field."""
        return self.name.endswith("__c")

    @property
    def compound(self) -> bool:
        """Whether the value is put together from other fields when asked for."""
        return self.address_prefix is not None


@dataclass(slots=True)
class ObjectTable:
    """An object: its fields by API name, in the order of the describe, and its records."""

    name: str
    key_prefix: str
    fields: dict[str, Field]
    records: list[Record] = field(default_factory=list)


# One word a field: name:type, ">" names the object referred to, "!" marks what SOQL can't filter by.
_AUDIT = (
    "CreatedDate:datetime CreatedById:reference>User LastModifiedDate:datetime LastModifiedById:reference>User "
    "SystemModstamp:datetime"
)
_VIEWED = "LastActivityDate:date LastViewedDate:datetime LastReferencedDate:datetime"


def _address(prefix: str) -> str:
    return (
        f"{prefix}Street:textarea {prefix}City:string {prefix}State:string {prefix}PostalCode:string "
        f"{prefix}Country:string {prefix}Latitude:double {prefix}Longitude:double {prefix}GeocodeAccuracy:picklist "
        f"{prefix}Address:address!"
    )


_STANDARD_FIELDS: Mapping[str, str] = {
    "Account": f"""Id:id IsDeleted:boolean MasterRecordId:reference>Account Name:string Type:picklist
        RecordTypeId:reference>RecordType ParentId:reference>Account {_address("Billing")} {_address("Shipping")}
        Phone:phone Fax:phone AccountNumber:string Website:url PhotoUrl:url Sic:string Industry:picklist
        AnnualRevenue:currency NumberOfEmployees:int Ownership:picklist TickerSymbol:string Description:textarea!
        Rating:picklist Site:string OwnerId:reference>User {_AUDIT} {_VIEWED} Jigsaw:string JigsawCompanyId:string
        CleanStatus:picklist AccountSource:picklist DunsNumber:string Tradestyle:string NaicsCode:string
        NaicsDesc:string YearStarted:string SicDesc:string DandbCompanyId:string OperatingHoursId:string""",
    "Contact": f"""Id:id IsDeleted:boolean MasterRecordId:reference>Contact AccountId:reference>Account
        LastName:string FirstName:string Salutation:picklist Name:string RecordTypeId:reference>RecordType
        {_address("Other")} {_address("Mailing")} Phone:phone Fax:phone MobilePhone:phone HomePhone:phone
        OtherPhone:phone AssistantPhone:phone ReportsToId:reference>Contact Email:email Title:string Department:string
        AssistantName:string LeadSource:picklist Birthdate:date Description:textarea! OwnerId:reference>User
        HasOptedOutOfEmail:boolean HasOptedOutOfFax:boolean DoNotCall:boolean {_AUDIT} {_VIEWED}
        EmailBouncedReason:string EmailBouncedDate:datetime IsEmailBounced:boolean PhotoUrl:url Jigsaw:string
        JigsawContactId:string CleanStatus:picklist""",
    "Opportunity": f"""Id:id IsDeleted:boolean AccountId:reference>Account RecordTypeId:reference>RecordType
        IsPrivate:boolean Name:string Description:textarea! StageName:picklist Amount:currency Probability:percent
        ExpectedRevenue:currency TotalOpportunityQuantity:double CloseDate:date Type:picklist NextStep:string
        LeadSource:picklist IsClosed:boolean IsWon:boolean ForecastCategory:picklist ForecastCategoryName:picklist
        CampaignId:reference>Campaign HasOpportunityLineItem:boolean Pricebook2Id:reference>Pricebook2
        OwnerId:reference>User {_AUDIT} {_VIEWED} FiscalQuarter:int FiscalYear:int Fiscal:string
        ContactId:reference>Contact PushCount:int LastStageChangeDate:datetime HasOpenActivity:boolean
        HasOverdueTask:boolean SyncedQuoteId:reference>Quote Territory2Id:reference>Territory2
        IsExcludedFromTerritory2Filter:boolean""",
    "User": f"""Id:id Username:string LastName:string FirstName:string Name:string CompanyName:string Division:string
        Department:string Title:string {_address("")} Email:email Phone:phone Fax:phone MobilePhone:phone
        Alias:string CommunityNickname:string IsActive:boolean TimeZoneSidKey:picklist LocaleSidKey:picklist
        EmailEncodingKey:picklist LanguageLocaleKey:picklist UserType:picklist UserRoleId:reference>UserRole
        ProfileId:reference>Profile EmployeeNumber:string ManagerId:reference>User ContactId:reference>Contact
        AccountId:reference>Account FederationIdentifier:string AboutMe:textarea! LastLoginDate:datetime {_AUDIT}
        LastViewedDate:datetime LastReferencedDate:datetime FullPhotoUrl:url SmallPhotoUrl:url""",
    "Lead": f"""Id:id IsDeleted:boolean MasterRecordId:reference>Lead LastName:string FirstName:string
        Salutation:picklist Name:string RecordTypeId:reference>RecordType Title:string Company:string {_address("")}
        Phone:phone MobilePhone:phone Fax:phone Email:email Website:url Description:textarea! LeadSource:picklist
        Status:picklist Industry:picklist Rating:picklist AnnualRevenue:currency NumberOfEmployees:int
        OwnerId:reference>User IsConverted:boolean ConvertedDate:date ConvertedAccountId:reference>Account
        ConvertedContactId:reference>Contact ConvertedOpportunityId:reference>Opportunity IsUnreadByOwner:boolean
        {_AUDIT} {_VIEWED}""",
    "Case": f"""Id:id IsDeleted:boolean MasterRecordId:reference>Case CaseNumber:string ContactId:reference>Contact
        AccountId:reference>Account ParentId:reference>Case SuppliedName:string SuppliedEmail:email Type:picklist
        RecordTypeId:reference>RecordType Status:picklist Reason:picklist Origin:picklist Subject:string
        Priority:picklist Description:textarea! IsClosed:boolean ClosedDate:datetime IsEscalated:boolean
        OwnerId:reference>User {_AUDIT} LastViewedDate:datetime LastReferencedDate:datetime""",
    "Campaign": f"""Id:id IsDeleted:boolean Name:string ParentId:reference>Campaign Type:picklist Status:picklist
        StartDate:date EndDate:date ExpectedRevenue:currency BudgetedCost:currency ActualCost:currency
        IsActive:boolean Description:textarea! OwnerId:reference>User {_AUDIT} {_VIEWED}""",
    "Task": f"""Id:id IsDeleted:boolean WhoId:reference WhatId:reference Subject:string ActivityDate:date
        Status:picklist Priority:picklist OwnerId:reference>User Description:textarea! AccountId:reference>Account
        IsClosed:boolean {_AUDIT}""",
    "Event": f"""Id:id IsDeleted:boolean WhoId:reference WhatId:reference Subject:string Location:string
        ActivityDateTime:datetime StartDateTime:datetime EndDateTime:datetime IsAllDayEvent:boolean
        OwnerId:reference>User Description:textarea! AccountId:reference>Account {_AUDIT}""",
    "Organization": f"""Id:id Name:string {_address("")} Phone:phone InstanceName:string IsSandbox:boolean
        OrganizationType:picklist {_AUDIT}""",
}

_KEY_PREFIXES: Mapping[str, str] = {
    "Account": "001",
    "Note": "002",
    "Contact": "003",
    "User": "005",
    "Opportunity": "006",
    "OpportunityLineItem": "00k",
    "OpportunityContactRole": "00K",
    "AccountContactRole": "02Z",
    "AccountContactRelation": "07k",
    "UserRole": "00E",
    "Profile": "00e",
    "Group": "00G",
    "Organization": "00D",
    "Attachment": "00P",
    "Lead": "00Q",
    "Task": "00T",
    "Event": "00U",
    "CampaignMember": "00v",
    "RecordType": "012",
    "Pricebook2": "01s",
    "Product2": "01t",
    "PricebookEntry": "01u",
    "Asset": "02i",
    "ContentVersion": "068",
    "ContentDocument": "069",
    "Quote": "0Q0",
    "Territory2": "0MI",
    "Case": "500",
    "Solution": "501",
    "Campaign": "701",
    "Contract": "800",
    "Order": "801",
}
"""Key prefixes that are the same in every org."""

STANDARD_OBJECTS = frozenset(_KEY_PREFIXES)


def is_custom_object(name: str) -> bool:
    """Whether *name* is that of a custom object."""
    return name.endswith("__c")


def key_prefix(object_name: str) -> str:
    """The first three characters of every id of *object_name*.

    Raises:
        KeyError: the object is neither standard nor custom.
    """
    return ids.custom_key_prefix(object_name) if is_custom_object(object_name) else _KEY_PREFIXES[object_name]


def _parse_field(word: str) -> Field:
    name, _, rest = word.partition(":")
    filterable = not rest.endswith("!")
    type_name, _, target = rest.rstrip("!").partition(">")
    prefix = name.removesuffix("Address") if type_name == "address" else None
    return Field(name, type_name, target or None, filterable, prefix)


def standard_fields(object_name: str) -> dict[str, Field]:
    """The standard fields of *object_name*; those that nearly every object has, where no list of them is kept here."""
    spec = _STANDARD_FIELDS.get(object_name)
    if spec is None:
        spec = f"Id:id IsDeleted:boolean Name:string OwnerId:reference>User {_AUDIT}"
    return {made.name: made for made in map(_parse_field, spec.split())}


def empty_table(object_name: str, extra: Iterable[Field] = ()) -> ObjectTable:
    """A table of *object_name* with its standard fields and *extra* ones, and no records."""
    fields = standard_fields(object_name)
    fields.update((added.name, added) for added in extra)
    return ObjectTable(object_name, key_prefix(object_name), fields)
